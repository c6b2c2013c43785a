r"""Write the tokens that llama.cpp's own code gives for tests of converted GGUF tokenizers.

Usage: python scripts/make_gguf_goldens.py LLAMA_TOKENS

LLAMA_TOKENS is scripts/llama_tokens.cpp, compiled against llama.cpp. That is inside the source package
of llama-cpp-python (0.3.36 was used):

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36
    tar xzf llama_cpp_python-0.3.36.tar.gz; L=llama_cpp_python-0.3.36/vendor/llama.cpp
    off="-DBUILD_SHARED_LIBS=OFF -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_COMMON=OFF"
    cmake -S $L -B build $off -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
    cmake --build build --target llama; G=build/ggml/src/libggml
    g++ -std=c++17 -I$L/include -I$L/ggml/include scripts/llama_tokens.cpp -o llama_tokens \
        build/src/libllama.a $G.a $G-cpu.a $G-base.a -lpthread -ldl -lm
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.model.spm_gguf import SETTINGS, texts, write_spm

TARGET = Path(__file__).parents[1] / "tests" / "data" / "llama_cpp_tokens.json"
RANDOM = 150
"""Random texts for each setting."""


def main() -> None:
    found = {}
    with TemporaryDirectory() as folder:
        for setting in SETTINGS:
            path = write_spm(Path(folder) / "vocabulary.gguf", setting)
            asked = texts(RANDOM, setting)
            packed = Path(folder) / "texts"
            encoded = [text.encode() for text in asked]
            packed.write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in encoded))
            lines = subprocess.run(
                [sys.argv[1], str(path), str(packed)], check=True, capture_output=True, text=True
            ).stdout.split("\n")[:-1]
            pairs = zip(asked, lines, strict=True)
            found[setting] = [[text, [int(one) for one in line.split()]] for text, line in pairs]
    lines = [
        f"{json.dumps(setting)}: [\n" + ",\n".join(map(json.dumps, cases)) + "\n]"
        for setting, cases in found.items()
    ]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")


if __name__ == "__main__":
    main()
