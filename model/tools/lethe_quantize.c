/* lethe-quantize FROM TO bf16|q8|q4: a model folder with smaller weights, which the engine opens as it is. */
#include "model.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    model_precision precision;
    if (argc != 4 || !model_precision_parse(argv[3], &precision)) {
        fputs("usage: lethe-quantize FROM TO bf16|q8|q4\n"
              "FROM: config.json, model.safetensors (F32, F16 or BF16), tokenizer.json; TO: a new folder\n", stderr);
        return 2;
    }
    result r = model_quantise(argv[1], argv[2], precision);
    if (is_ok(r)) return 0;
    fprintf(stderr, "lethe-quantize: %s\n", r.message);
    return 1;
}
