"""The bibliography of jinit: one constant for each work that its documentation cites.

A constant is named by the first author and the year, as in `GLOROT_2010`. The year is
the one in which the named venue published the work; preprints are often a year older.
"""

from .paper import Paper as Paper

# One argument per line, as the formatter has it, would make this file twice as long.
# fmt: off
AITKEN_2017 = Paper(("Aitken", "Ledig", "Theis", "Caballero", "Wang", "Shi"), 2017,
    "Checkerboard artifact free sub-pixel convolution: a note on sub-pixel "
    "convolution, resize convolution and convolution resize",
    "https://arxiv.org/abs/1707.02937", "arXiv")
ALLEN_1977 = Paper(("Allen", "Rabiner"), 1977,
    "A unified approach to short-time Fourier analysis and synthesis",
    "https://doi.org/10.1109/PROC.1977.10770", "Proceedings of the IEEE")
ASH_2020 = Paper(("Ash", "Adams"), 2020,
    "On warm-starting neural network training",
    "https://arxiv.org/abs/1910.08475", "NeurIPS")
BACHLECHNER_2021 = Paper(
    ("Bachlechner", "Majumder", "Mao", "Cottrell", "McAuley"), 2021,
    "ReZero is all you need: fast convergence at large depth",
    "https://arxiv.org/abs/2003.04887", "UAI")
BALDUZZI_2017 = Paper(("Balduzzi", "Frean", "Leary", "Lewis", "Ma", "McWilliams"), 2017,
    "The shattered gradients problem: if resnets are the answer, then what is the "
    "question?",
    "https://arxiv.org/abs/1702.08591", "ICML")
BECK_2024 = Paper(
    ("Beck", "Pöppel", "Spanring", "Auer", "Prudnikova", "Kopp", "Klambauer",
     "Brandstetter", "Hochreiter"), 2024,
    "xLSTM: extended long short-term memory",
    "https://arxiv.org/abs/2405.04517", "NeurIPS")
BERNSTEIN_2025 = Paper(("Bernstein", "Newhouse"), 2025,
    "Modular duality in deep learning",
    "https://arxiv.org/abs/2410.21265", "ICML")
BEYER_2022 = Paper(("Beyer", "Zhai", "Kolesnikov"), 2022,
    "Better plain ViT baselines for ImageNet-1k",
    "https://arxiv.org/abs/2205.01580", "arXiv")
BINGHAM_2023 = Paper(("Bingham", "Miikkulainen"), 2023,
    "AutoInit: analytic signal-preserving weight initialization for neural networks",
    "https://arxiv.org/abs/2109.08958", "AAAI")
BLACK_2022 = Paper(
    ("Black", "Biderman", "Hallahan", "Anthony", "Gao", "Golding", "He", "Leahy",
     "McDonell", "Phang", "Pieler", "Prashanth", "Purohit", "Reynolds", "Tow",
     "Wang", "Weinbach"), 2022,
    "GPT-NeoX-20B: an open-source autoregressive language model",
    "https://arxiv.org/abs/2204.06745", "BigScience Workshop")
BLAKE_2025 = Paper(
    ("Blake", "Eichenberg", "Dean", "Balles", "Prince", "Deiseroth",
     "Cruz-Salinas", "Luschi", "Weinbach", "Orr"), 2025,
    "u-muP: the unit-scaled maximal update parametrization",
    "https://arxiv.org/abs/2407.17465", "ICLR")
BUYUKAKYUZ_2024 = Paper(("Büyükakyüz",), 2024,
    "OLoRA: orthonormal low-rank adaptation of large language models",
    "https://arxiv.org/abs/2406.01775", "arXiv")
CHANG_2020 = Paper(("Chang", "Flokas", "Lipson"), 2020,
    "Principled weight initialization for hypernetworks",
    "https://openreview.net/forum?id=H1lma24tPB", "ICLR")
CHEN_2014 = Paper(("Chen", "Chow"), 2014,
    "A stable scaling of Newton-Schulz for improving the sign function computation of "
    "a Hermitian matrix",
    "https://www.mcs.anl.gov/papers/P5059-0114.pdf", "Argonne National Laboratory")
CHEN_2021 = Paper(("Chen", "Xie", "He"), 2021,
    "An empirical study of training self-supervised vision transformers",
    "https://arxiv.org/abs/2104.02057", "ICCV")
CHO_2009 = Paper(("Cho", "Saul"), 2009,
    "Kernel methods for deep learning",
    "https://proceedings.neurips.cc/paper_files/paper/2009/hash/"
    "5751ec3e9a4feab575962e78e006250d-Abstract.html", "NeurIPS")
COATES_2012 = Paper(("Coates", "Ng"), 2012,
    "Learning feature representations with K-means",
    "https://doi.org/10.1007/978-3-642-35289-8_30",
    "Neural Networks: Tricks of the Trade")
DAO_2024 = Paper(("Dao", "Gu"), 2024,
    "Transformers are SSMs: generalized models and efficient algorithms through "
    "structured state space duality",
    "https://arxiv.org/abs/2405.21060", "ICML")
DAUPHIN_2019 = Paper(("Dauphin", "Schoenholz"), 2019,
    "MetaInit: initializing learning by learning to initialize",
    "https://proceedings.neurips.cc/paper_files/paper/2019/hash/"
    "876e8108f87eb61877c6263228b67256-Abstract.html", "NeurIPS")
DE_2020 = Paper(("De", "Smith"), 2020,
    "Batch normalization biases residual blocks towards the identity function in deep "
    "networks",
    "https://arxiv.org/abs/2002.10444", "NeurIPS")
DE_2024 = Paper(
    ("De", "Smith", "Fernando", "Botev", "Cristian-Muraru", "Gu", "Haroun", "Berrada",
     "Chen", "Srinivasan", "Desjardins", "Doucet", "Budden", "Teh", "Pascanu",
     "De Freitas", "Gulcehre"), 2024,
    "Griffin: mixing gated linear recurrences with local attention for efficient "
    "language models",
    "https://arxiv.org/abs/2402.19427", "arXiv")
DEY_2025 = Paper(
    ("Dey", "Zhang", "Noci", "Li", "Bordelon", "Bergsma", "Pehlevan", "Hanin",
     "Hestness"), 2025,
    "Don't be lazy: CompleteP enables compute-efficient deep transformers",
    "https://arxiv.org/abs/2505.01618", "NeurIPS")
DHARIWAL_2021 = Paper(("Dhariwal", "Nichol"), 2021,
    "Diffusion models beat GANs on image synthesis",
    "https://arxiv.org/abs/2105.05233", "NeurIPS")
DOSOVITSKIY_2021 = Paper(
    ("Dosovitskiy", "Beyer", "Kolesnikov", "Weissenborn", "Zhai", "Unterthiner",
     "Dehghani", "Minderer", "Heigold", "Gelly", "Uszkoreit", "Houlsby"), 2021,
    "An image is worth 16x16 words: transformers for image recognition at scale",
    "https://arxiv.org/abs/2010.11929", "ICLR")
EVERETT_2024 = Paper(
    ("Everett", "Xiao", "Wortsman", "Alemi", "Novak", "Liu", "Gur",
     "Sohl-Dickstein", "Kaelbling", "Lee", "Pennington"), 2024,
    "Scaling exponents across parameterizations and optimizers",
    "https://arxiv.org/abs/2407.05872", "ICML")
FEDUS_2022 = Paper(("Fedus", "Zoph", "Shazeer"), 2022,
    "Switch transformers: scaling to trillion parameter models with simple and "
    "efficient sparsity",
    "https://arxiv.org/abs/2101.03961", "JMLR")
GERS_2000 = Paper(("Gers", "Schmidhuber", "Cummins"), 2000,
    "Learning to forget: continual prediction with LSTM",
    "https://doi.org/10.1162/089976600300015015", "Neural Computation")
GILES_2012 = Paper(("Giles",), 2012,
    "Approximating the erfinv function",
    "https://doi.org/10.1016/B978-0-12-385963-1.00010-1",
    "GPU Computing Gems Jade Edition")
GLOROT_2010 = Paper(("Glorot", "Bengio"), 2010,
    "Understanding the difficulty of training deep feedforward neural networks",
    "https://proceedings.mlr.press/v9/glorot10a.html", "AISTATS")
GOYAL_2017 = Paper(
    ("Goyal", "Dollár", "Girshick", "Noordhuis", "Wesolowski", "Kyrola", "Tulloch",
     "Jia", "He"), 2017,
    "Accurate, large minibatch SGD: training ImageNet in 1 hour",
    "https://arxiv.org/abs/1706.02677", "arXiv")
GU_2020 = Paper(("Gu", "Dao", "Ermon", "Rudra", "Ré"), 2020,
    "HiPPO: recurrent memory with optimal polynomial projections",
    "https://arxiv.org/abs/2008.07669", "NeurIPS")
GU_2022 = Paper(("Gu", "Gupta", "Goel", "Ré"), 2022,
    "On the parameterization and initialization of diagonal state space models",
    "https://arxiv.org/abs/2206.11893", "NeurIPS")
GU_2024 = Paper(("Gu", "Dao"), 2024,
    "Mamba: linear-time sequence modeling with selective state spaces",
    "https://arxiv.org/abs/2312.00752", "COLM")
GUPTA_2022 = Paper(("Gupta", "Gu", "Berant"), 2022,
    "Diagonal state spaces are as effective as structured state spaces",
    "https://arxiv.org/abs/2203.14343", "NeurIPS")
HAAS_2025 = Paper(("Haas", "Bordt", "von Luxburg", "Vankadara"), 2025,
    "On the surprising effectiveness of large learning rates under standard width "
    "scaling",
    "https://arxiv.org/abs/2505.22491", "NeurIPS")
HANIN_2018 = Paper(("Hanin", "Rolnick"), 2018,
    "How to start training: the effect of initialization and architecture",
    "https://arxiv.org/abs/1803.01719", "NeurIPS")
HAYOU_2019 = Paper(("Hayou", "Doucet", "Rousseau"), 2019,
    "On the impact of the activation function on deep neural networks training",
    "https://arxiv.org/abs/1902.06853", "ICML")
HE_2015 = Paper(("He", "Zhang", "Ren", "Sun"), 2015,
    "Delving deep into rectifiers: surpassing human-level performance on ImageNet "
    "classification",
    "https://arxiv.org/abs/1502.01852", "ICCV")
HE_2022 = Paper(("He", "Chen", "Xie", "Li", "Dollár", "Girshick"), 2022,
    "Masked autoencoders are scalable vision learners",
    "https://arxiv.org/abs/2111.06377", "CVPR")
HU_2022 = Paper(
    ("Hu", "Shen", "Wallis", "Allen-Zhu", "Li", "Wang", "Wang", "Chen"), 2022,
    "LoRA: low-rank adaptation of large language models",
    "https://arxiv.org/abs/2106.09685", "ICLR")
HUANG_2020 = Paper(("Huang", "Perez", "Ba", "Volkovs"), 2020,
    "Improving transformer optimization through better initialization",
    "https://proceedings.mlr.press/v119/huang20f.html", "ICML")
JIANG_2026 = Paper(("Jiang", "Bordelon", "Pehlevan", "Hanin"), 2026,
    "Hyperparameter transfer with mixture-of-experts layers",
    "https://arxiv.org/abs/2601.20205", "ICML")
JORDAN_2024 = Paper(("Jordan",), 2024,
    "94% on CIFAR-10 in 3.29 seconds on a single GPU",
    "https://arxiv.org/abs/2404.00498", "arXiv")
JOZEFOWICZ_2015 = Paper(("Jozefowicz", "Zaremba", "Sutskever"), 2015,
    "An empirical exploration of recurrent network architectures",
    "https://proceedings.mlr.press/v37/jozefowicz15.html", "ICML")
KLAMBAUER_2017 = Paper(("Klambauer", "Unterthiner", "Mayr", "Hochreiter"), 2017,
    "Self-normalizing neural networks",
    "https://arxiv.org/abs/1706.02515", "NeurIPS")
KOSSON_2025 = Paper(("Kosson", "Welborn", "Liu", "Jaggi", "Chen"), 2025,
    "Weight decay may matter more than muP for learning rate transfer in practice",
    "https://arxiv.org/abs/2510.19093", "arXiv")
KRAHENBUHL_2016 = Paper(("Krähenbühl", "Doersch", "Donahue", "Darrell"), 2016,
    "Data-dependent initializations of convolutional neural networks",
    "https://arxiv.org/abs/1511.06856", "ICLR")
LE_2015 = Paper(("Le", "Jaitly", "Hinton"), 2015,
    "A simple way to initialize recurrent networks of rectified linear units",
    "https://arxiv.org/abs/1504.00941", "arXiv")
LECUN_1998 = Paper(("LeCun", "Bottou", "Orr", "Müller"), 1998,
    "Efficient BackProp",
    "https://doi.org/10.1007/3-540-49430-8_2", "Neural Networks: Tricks of the Trade")
LIN_2017 = Paper(("Lin", "Goyal", "Girshick", "He", "Dollár"), 2017,
    "Focal loss for dense object detection",
    "https://arxiv.org/abs/1708.02002", "ICCV")
LIU_2025 = Paper(
    ("Liu", "Su", "Yao", "Jiang", "Lai", "Du", "Qin", "Xu", "Lu", "Yan", "Chen",
     "Zheng", "Liu", "Liu", "Yin", "He", "Zhu", "Wang", "Wang", "Dong", "Zhang",
     "Kang", "Zhang", "Xu", "Zhang", "Wu", "Zhou", "Yang"), 2025,
    "Muon is scalable for LLM training",
    "https://arxiv.org/abs/2502.16982", "arXiv")
LONG_2015 = Paper(("Long", "Shelhamer", "Darrell"), 2015,
    "Fully convolutional networks for semantic segmentation",
    "https://arxiv.org/abs/1411.4038", "CVPR")
LOSHCHILOV_2025 = Paper(("Loshchilov", "Hsieh", "Sun", "Ginsburg"), 2025,
    "nGPT: normalized transformer with representation learning on the hypersphere",
    "https://arxiv.org/abs/2410.01131", "ICLR")
MALASNICKI_2025 = Paper(
    ("Małaśnicki", "Ciebiera", "Boruń", "Pióro", "Ludziejewski", "Stefaniak", "Krutul",
     "Jaszczur", "Cygan", "Adamczewski", "Krajewski"), 2025,
    "Mu-parametrization for mixture of experts",
    "https://arxiv.org/abs/2508.09752", "arXiv")
MARTENS_2010 = Paper(("Martens",), 2010,
    "Deep learning via Hessian-free optimization",
    "https://icml.cc/Conferences/2010/papers/458.pdf", "ICML")
MENG_2024 = Paper(("Meng", "Wang", "Zhang"), 2024,
    "PiSSA: principal singular values and singular vectors adaptation of large "
    "language models",
    "https://arxiv.org/abs/2404.02948", "NeurIPS")
MEZZADRI_2007 = Paper(("Mezzadri",), 2007,
    "How to generate random matrices from the classical compact groups",
    "https://arxiv.org/abs/math-ph/0609050", "Notices of the AMS")
MICIKEVICIUS_2018 = Paper(
    ("Micikevicius", "Narang", "Alben", "Diamos", "Elsen", "Garcia", "Ginsburg",
     "Houston", "Kuchaiev", "Venkatesh", "Wu"), 2018,
    "Mixed precision training", "https://arxiv.org/abs/1710.03740", "ICLR")
MISHKIN_2016 = Paper(("Mishkin", "Matas"), 2016,
    "All you need is a good init",
    "https://arxiv.org/abs/1511.06422", "ICLR")
MOSHIER_1989 = Paper(("Moshier",), 1989,
    "Methods and programs for mathematical functions",
    "https://www.netlib.org/cephes/", "Ellis Horwood")
NGUYEN_2019 = Paper(("Nguyen", "Salazar"), 2019,
    "Transformers without tears: improving the normalization of self-attention",
    "https://arxiv.org/abs/1910.05895", "IWSLT")
ORVIETO_2023 = Paper(
    ("Orvieto", "Smith", "Gu", "Fernando", "Gulcehre", "Pascanu", "De"), 2023,
    "Resurrecting recurrent neural networks for long sequences",
    "https://arxiv.org/abs/2303.06349", "ICML")
PASZKE_2019 = Paper(
    ("Paszke", "Gross", "Massa", "Lerer", "Bradbury", "Chanan", "Killeen", "Lin",
     "Gimelshein", "Antiga", "Desmaison", "Köpf", "Yang", "DeVito", "Raison",
     "Tejani", "Chilamkurthy", "Steiner", "Fang", "Bai", "Chintala"), 2019,
    "PyTorch: an imperative style, high-performance deep learning library",
    "https://arxiv.org/abs/1912.01703", "NeurIPS")
PEEBLES_2023 = Paper(("Peebles", "Xie"), 2023,
    "Scalable diffusion models with transformers",
    "https://arxiv.org/abs/2212.09748", "ICCV")
PENG_2025 = Paper(
    ("Peng", "Zhang", "Goldstein", "Alcaide", "Du", "Hou", "Lin", "Liu", "Lu",
     "Merrill", "Song", "Tan", "Utpala", "Wilce", "Wind", "Wu", "Wuttke",
     "Zhou-Zheng"), 2025,
    "RWKV-7 'Goose' with expressive dynamic state evolution",
    "https://arxiv.org/abs/2503.14456", "arXiv")
PENNINGTON_2017 = Paper(("Pennington", "Schoenholz", "Ganguli"), 2017,
    "Resurrecting the sigmoid in deep learning through dynamical isometry: theory and "
    "practice",
    "https://arxiv.org/abs/1711.04735", "NeurIPS")
POOLE_2016 = Paper(("Poole", "Lahiri", "Raghu", "Sohl-Dickstein", "Ganguli"), 2016,
    "Exponential expressivity in deep neural networks through transient chaos",
    "https://arxiv.org/abs/1606.05340", "NeurIPS")
RADFORD_2019 = Paper(("Radford", "Wu", "Child", "Luan", "Amodei", "Sutskever"), 2019,
    "Language models are unsupervised multitask learners",
    "https://cdn.openai.com/better-language-models/"
    "language_models_are_unsupervised_multitask_learners.pdf", "OpenAI")
RADFORD_2021 = Paper(
    ("Radford", "Kim", "Hallacy", "Ramesh", "Goh", "Agarwal", "Sastry", "Askell",
     "Mishkin", "Clark", "Krueger", "Sutskever"), 2021,
    "Learning transferable visual models from natural language supervision",
    "https://arxiv.org/abs/2103.00020", "ICML")
RAFFEL_2020 = Paper(
    ("Raffel", "Shazeer", "Roberts", "Lee", "Narang", "Matena", "Zhou", "Li",
     "Liu"), 2020,
    "Exploring the limits of transfer learning with a unified text-to-text transformer",
    "https://arxiv.org/abs/1910.10683", "JMLR")
RAHIMI_2007 = Paper(("Rahimi", "Recht"), 2007,
    "Random features for large-scale kernel machines",
    "https://proceedings.neurips.cc/paper_files/paper/2007/hash/"
    "013a006f03dbc5392effeb8f18fda755-Abstract.html", "NeurIPS")
SALIMANS_2016 = Paper(("Salimans", "Kingma"), 2016,
    "Weight normalization: a simple reparameterization to accelerate training of deep "
    "neural networks",
    "https://arxiv.org/abs/1602.07868", "NeurIPS")
SALMON_2011 = Paper(("Salmon", "Moraes", "Dror", "Shaw"), 2011,
    "Parallel random numbers: as easy as 1, 2, 3",
    "https://doi.org/10.1145/2063384.2063405", "SC")
SAXE_2014 = Paper(("Saxe", "McClelland", "Ganguli"), 2014,
    "Exact solutions to the nonlinear dynamics of learning in deep linear neural "
    "networks",
    "https://arxiv.org/abs/1312.6120", "ICLR")
SCHOENHOLZ_2017 = Paper(("Schoenholz", "Gilmer", "Ganguli", "Sohl-Dickstein"), 2017,
    "Deep information propagation",
    "https://arxiv.org/abs/1611.01232", "ICLR")
SCHREIBER_1989 = Paper(("Schreiber", "Van Loan"), 1989,
    "A storage-efficient WY representation for products of Householder transformations",
    "https://doi.org/10.1137/0910005",
    "SIAM Journal on Scientific and Statistical Computing")
SITZMANN_2020 = Paper(("Sitzmann", "Martel", "Bergman", "Lindell", "Wetzstein"), 2020,
    "Implicit neural representations with periodic activation functions",
    "https://arxiv.org/abs/2006.09661", "NeurIPS")
STEWART_1980 = Paper(("Stewart",), 1980,
    "The efficient generation of random orthogonal matrices with an application to "
    "condition estimators",
    "https://doi.org/10.1137/0717034", "SIAM Journal on Numerical Analysis")
SYLVESTER_1867 = Paper(("Sylvester",), 1867,
    "Thoughts on inverse orthogonal matrices, simultaneous sign-successions, and "
    "tessellated pavements in two or more colours, with applications to Newton's "
    "rule, ornamental tile-work, and the theory of numbers",
    "https://doi.org/10.1080/14786446708639914", "Philosophical Magazine")
TALLEC_2018 = Paper(("Tallec", "Ollivier"), 2018,
    "Can recurrent neural networks warp time?",
    "https://arxiv.org/abs/1804.11188", "ICLR")
TANCIK_2020 = Paper(
    ("Tancik", "Srinivasan", "Mildenhall", "Fridovich-Keil", "Raghavan",
     "Singhal", "Ramamoorthi", "Barron", "Ng"), 2020,
    "Fourier features let networks learn high frequency functions in low dimensional "
    "domains",
    "https://arxiv.org/abs/2006.10739", "NeurIPS")
TOUVRON_2021 = Paper(("Touvron", "Cord", "Sablayrolles", "Synnaeve", "Jégou"), 2021,
    "Going deeper with image transformers",
    "https://arxiv.org/abs/2103.17239", "ICCV")
TROCKMAN_2023 = Paper(("Trockman", "Kolter"), 2023,
    "Mimetic initialization of self-attention layers",
    "https://arxiv.org/abs/2305.09828", "ICML")
VASWANI_2017 = Paper(
    ("Vaswani", "Shazeer", "Parmar", "Uszkoreit", "Jones", "Gomez", "Kaiser",
     "Polosukhin"), 2017,
    "Attention is all you need",
    "https://arxiv.org/abs/1706.03762", "NeurIPS")
WANG_2023 = Paper(
    ("Wang", "Ma", "Huang", "Dong", "Wang", "Peng", "Wu", "Bajaj", "Singhal",
     "Benhaim", "Patra", "Liu", "Chaudhary", "Song", "Wei"), 2023,
    "Magneto: a foundation transformer",
    "https://openreview.net/forum?id=oeAhgeKFEw", "ICML")
WANG_2024 = Paper(("Wang", "Ma", "Dong", "Huang", "Zhang", "Wei"), 2024,
    "DeepNet: scaling transformers to 1,000 layers",
    "https://arxiv.org/abs/2203.00555", "TPAMI")
WANG_2025 = Paper(("Wang", "Aitchison"), 2025,
    "How to set AdamW's weight decay as you scale model and dataset size",
    "https://arxiv.org/abs/2405.13698", "ICML")
WIGHTMAN_2019 = Paper(("Wightman",), 2019,
    "PyTorch image models",
    "https://doi.org/10.5281/zenodo.4414861", "GitHub")
WILLIAMS_1996 = Paper(("Williams",), 1996,
    "Computing with infinite networks",
    "https://proceedings.neurips.cc/paper_files/paper/1996/hash/"
    "ae5e3ce40e0404a45ecacaaf05e5f735-Abstract.html", "NeurIPS")
XIAO_2018 = Paper(("Xiao", "Bahri", "Sohl-Dickstein", "Schoenholz", "Pennington"), 2018,
    "Dynamical isometry and a mean field theory of CNNs: how to train 10,000-layer "
    "vanilla convolutional neural networks",
    "https://arxiv.org/abs/1806.05393", "ICML")
YANG_2021 = Paper(
    ("Yang", "Hu", "Babuschkin", "Sidor", "Liu", "Farhi", "Ryder", "Pachocki",
     "Chen", "Gao"), 2021,
    "Tensor programs V: tuning large neural networks via zero-shot hyperparameter "
    "transfer",
    "https://arxiv.org/abs/2203.03466", "NeurIPS")
YANG_2023 = Paper(("Yang", "Simon", "Bernstein"), 2023,
    "A spectral condition for feature learning",
    "https://arxiv.org/abs/2310.17813", "arXiv")
YANG_2024 = Paper(("Yang", "Yu", "Zhu", "Hayou"), 2024,
    "Tensor programs VI: feature learning in infinite-depth neural networks",
    "https://arxiv.org/abs/2310.02244", "ICLR")
YANG_2025 = Paper(("Yang", "Kautz", "Hatamizadeh"), 2025,
    "Gated delta networks: improving Mamba2 with delta rule",
    "https://arxiv.org/abs/2412.06464", "ICLR")
ZAGORUYKO_2017 = Paper(("Zagoruyko", "Komodakis"), 2017,
    "DiracNets: training very deep neural networks without skip-connections",
    "https://arxiv.org/abs/1706.00388", "arXiv")
ZHAI_2023 = Paper(("Zhai", "Mustafa", "Kolesnikov", "Beyer"), 2023,
    "Sigmoid loss for language image pre-training",
    "https://arxiv.org/abs/2303.15343", "ICCV")
ZHANG_2019 = Paper(("Zhang", "Dauphin", "Ma"), 2019,
    "Fixup initialization: residual learning without normalization",
    "https://arxiv.org/abs/1901.09321", "ICLR")
ZHAO_2022 = Paper(("Zhao", "Schäfer", "Anandkumar"), 2022,
    "ZerO initialization: initializing neural networks with only zeros and ones",
    "https://arxiv.org/abs/2110.12661", "TMLR")
ZHU_2021 = Paper(("Zhu", "Ni", "Xu", "Kong", "Huang", "Goldstein"), 2021,
    "GradInit: learning to initialize neural networks for stable and efficient "
    "training",
    "https://arxiv.org/abs/2102.08098", "NeurIPS")
ZHU_2025 = Paper(
    ("Zhu", "Huang", "Huang", "Zeng", "Mao", "Wu", "Min", "Zhou"), 2025,
    "Hyper-connections", "https://arxiv.org/abs/2409.19606", "ICLR")
# fmt: on
