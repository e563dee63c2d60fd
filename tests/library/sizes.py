"""The sizes of well-known models, as their configurations have them."""

from __future__ import annotations

from library.shapes import Sizes

LLAMA_2_7B = Sizes(32, 4096, 11008, 32, 32, 32000)
LLAMA_3_8B = Sizes(32, 4096, 14336, 32, 8, 128256, 8192)
LLAMA_3_2_1B = Sizes(16, 2048, 8192, 32, 8, 128256, 131072, tied=True)
LLAMA_3_2_3B = Sizes(28, 3072, 8192, 24, 8, 128256, 131072, tied=True)
LLAMA_70B = Sizes(80, 8192, 28672, 64, 8, 128256, 131072)
OPEN_LLAMA_3B = Sizes(26, 3200, 8640, 32, 32, 32000, 2048)
ALPACA = Sizes(32, 4096, 11008, 32, 32, 32001, 2048)
MISTRAL = Sizes(32, 4096, 14336, 32, 8, 32000, 32768)
NEMO = Sizes(40, 5120, 14336, 32, 8, 131072, 131072, head=128)
MIXTRAL = Sizes(32, 4096, 14336, 32, 8, 32000, 32768, experts=8, used=2)
QWEN_25_05B = Sizes(24, 896, 4864, 14, 2, 151936, 32768, tied=True, bias=True)
QWEN_25_15B = Sizes(28, 1536, 8960, 12, 2, 151936, 32768, tied=True, bias=True)
QWEN_25_3B = Sizes(36, 2048, 11008, 16, 2, 151936, 32768, tied=True, bias=True)
QWEN_25_7B = Sizes(28, 3584, 18944, 28, 4, 152064, 32768, bias=True)
QWEN_25_14B = Sizes(48, 5120, 13824, 40, 8, 152064, 32768, bias=True)
QWEN_25_32B = Sizes(64, 5120, 27648, 40, 8, 152064, 32768, bias=True)
QWEN_25_72B = Sizes(80, 8192, 29568, 64, 8, 152064, 32768, bias=True)
QWEN_3_06B = Sizes(28, 1024, 3072, 16, 8, 151936, 40960, 128, tied=True, head_norms=True)
QWEN_3_4B = Sizes(36, 2560, 9728, 32, 8, 151936, 40960, 128, tied=True, head_norms=True)
QWEN_3_8B = Sizes(36, 4096, 12288, 32, 8, 151936, 40960, 128, head_norms=True)
QWEN_3_14B = Sizes(40, 5120, 17408, 40, 8, 151936, 40960, 128, head_norms=True)
QWEN_3_32B = Sizes(64, 5120, 25600, 64, 8, 151936, 40960, 128, head_norms=True)
QWEN_3_30B_A3B = Sizes(
    48, 2048, 768, 32, 4, 151936, 40960, 128, head_norms=True, experts=128, used=8
)
GEMMA_2B = Sizes(18, 2048, 16384, 8, 1, 256000, 8192, 256, tied=True)
GEMMA_7B = Sizes(28, 3072, 24576, 16, 16, 256000, 8192, 256, tied=True)
GEMMA_2_2B = Sizes(26, 2304, 9216, 8, 4, 256000, 8192, 256, tied=True, norms=4)
GEMMA_2_9B = Sizes(42, 3584, 14336, 16, 8, 256000, 8192, 256, tied=True, norms=4)
GEMMA_2_27B = Sizes(46, 4608, 36864, 32, 16, 256000, 8192, 128, tied=True, norms=4)
GEMMA_3_1B = Sizes(26, 1152, 6912, 4, 1, 262144, 32768, 256, tied=True, norms=4, head_norms=True)
PHI_3_MINI = Sizes(32, 3072, 8192, 32, 32, 32064, 4096)
SMOL_135M = Sizes(30, 576, 1536, 9, 3, 49152, 8192, tied=True)
SMOL_360M = Sizes(32, 960, 2560, 15, 5, 49152, 8192, tied=True)
SMOL_1_7B = Sizes(24, 2048, 8192, 32, 32, 49152, 8192, tied=True)
TINY_LLAMA = Sizes(22, 2048, 5632, 32, 4, 32000, 2048)
YI_6B = Sizes(32, 4096, 11008, 32, 4, 64000, 4096)
DEEPSEEK_7B = Sizes(30, 4096, 11008, 32, 32, 102400, 4096)
GPT2 = Sizes(12, 768, 3072, 12, 12, 50257, 1024)
GPT2_XL = Sizes(48, 1600, 6400, 25, 25, 50257, 1024)
OPT_125M = Sizes(12, 768, 3072, 12, 12, 50272, 2048)
OPT_1_3B = Sizes(24, 2048, 8192, 32, 32, 50272, 2048)
OPT_6_7B = Sizes(32, 4096, 16384, 32, 32, 50272, 2048)
GPT_OSS_20B = Sizes(24, 2880, 2880, 64, 8, 201088, 131072, 64, experts=32, used=4)
FALCON_7B = Sizes(32, 4544, 18176, 71, 1, 65024, 2048)
STARCODER2_3B = Sizes(30, 3072, 12288, 24, 2, 49152, 16384)
MISTRAL_V3 = Sizes(32, 4096, 14336, 32, 8, 32768, 32768)
MISTRAL_SMALL = Sizes(40, 5120, 32768, 32, 8, 131072, 131072, head=128)
QWEN_3_17B = Sizes(28, 2048, 6144, 16, 8, 151936, 40960, 128, tied=True, head_norms=True)
GEMMA_3_4B = Sizes(34, 2560, 10240, 8, 4, 262208, 131072, 256, tied=True, norms=4, head_norms=True)
GEMMA_3_12B = Sizes(
    48, 3840, 15360, 16, 8, 262208, 131072, 256, tied=True, norms=4, head_norms=True
)
GEMMA_3_27B = Sizes(
    62, 5376, 21504, 32, 16, 262208, 131072, 128, tied=True, norms=4, head_norms=True
)
PHI_4 = Sizes(40, 5120, 17920, 40, 10, 100352, 16384)
