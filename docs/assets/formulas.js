// Set the formulas of a page, also after instant navigation, by the KaTeX of this site.
document$.subscribe(() => {
  for (const place of document.querySelectorAll(".arithmatex")) {
    const text = place.textContent.trim();
    if (!/^\\[([]/.test(text)) continue; // it is set already
    katex.render(text.slice(2, -2), place, {
      displayMode: text.startsWith("\\["),
      throwOnError: false,
    });
  }
});
