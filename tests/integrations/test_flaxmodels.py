"""ResNet-18 (He et al. 2016) in Linen.

The package's StyleGAN2 and GPT-2 call `jnp.reshape(newshape=)`, which JAX no longer
has; `test_miniatures` has StyleGAN's layers.
"""

import jax

from tests.support.integration import KEY, Case, Checks, library

flaxmodels = library("flaxmodels")

IMAGES = jax.random.uniform(KEY, (8, 32, 32, 3))

RESNET = flaxmodels.ResNet18(output="logits", pretrained=None, num_classes=10)


class TestResNet18(Checks):
    case = Case(
        draw=lambda key: RESNET.init(key, IMAGES),
        call=lambda variables: (RESNET, variables, IMAGES),
        table="""
Conv_0/kernel  kkio  147 3136  input convolution
BasicBlock_{0,1}/Conv_0/kernel  kkio  576 576  convolution
BasicBlock_{0,1}/Conv_1/kernel  kkio  576 576  convolution residual_output
BasicBlock_2/Conv_0/kernel      kkio  576 1152  convolution
BasicBlock_2/Conv_1/kernel      kkio  1152 1152  convolution residual_output
BasicBlock_2/Conv_2/kernel      kkio  64 128  convolution
BasicBlock_7/Conv_1/kernel      kkio  4608 4608  convolution residual_output
Dense_0/kernel  io  512 10  readout
""",
        depth=8,
        # The package has fixed widths, of 64 to 512.
        spoiled="BasicBlock_3/Conv_1/kernel",
        options={"train": True, "mutable": ["batch_stats"]},
    )
