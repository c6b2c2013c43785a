// Tokenises texts with llama.cpp's own vocabulary code, for scripts/make_gguf_goldens.py.
//
//   llama_tokens VOCAB.gguf TEXTS      TEXTS: for each text its length (4 bytes, little-endian), then its bytes
//
// Prints the ids of each text on a line, special tokens parsed and added; "!" and the reason where it stops.
#include "llama.h"

#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

int main(int argc, char ** argv) {
    if (argc != 3) {
        return 2;
    }
    llama_log_set(
        [](ggml_log_level level, const char * text, void *) {
            if (level >= GGML_LOG_LEVEL_ERROR) {
                fputs(text, stderr);
            }
        },
        nullptr);
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    llama_model * model = llama_model_load_from_file(argv[1], params);
    if (model == nullptr) {
        return 3;
    }
    const llama_vocab * vocab = llama_model_get_vocab(model);
    std::ifstream in(argv[2], std::ios::binary);
    uint32_t size;
    while (in.read(reinterpret_cast<char *>(&size), 4)) {
        std::string text(size, '\0');
        in.read(&text[0], size);
        std::vector<llama_token> ids(size * 4 + 64);
        try {
            const int n = llama_tokenize(vocab, text.data(), size, ids.data(), ids.size(), true, true);
            for (int i = 0; i < n; i++) {
                printf(i ? " %d" : "%d", ids[i]);
            }
            printf("\n");
        } catch (const std::exception & error) {
            printf("! %s\n", error.what());
        }
    }
    llama_model_free(model);
    return 0;
}
