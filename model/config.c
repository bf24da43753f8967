/* config.json as transformers' MambaConfig and Mamba2Config write it. Key names and defaults: theirs. */
#include "config.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <string.h>

static const struct { const char *type, *name; } ARCHITECTURES[] = {
    [ARCHITECTURE_MAMBA] = {"mamba", "MambaForCausalLM"},
    [ARCHITECTURE_MAMBA2] = {"mamba2", "Mamba2ForCausalLM"}};

const char *architecture_name(architecture a) { return ARCHITECTURES[a].name; }

/* A name from the file, fit for an error message: a few harmless characters. */
static const char *printable(const char *s, char out[48])
{
    size_t n = 0;
    for (; s[n] != '\0' && n < 47; n++)
        out[n] = (char)(isalnum((unsigned char)s[n]) || s[n] == '_' || s[n] == '-' ? s[n] : '?');
    out[n] = '\0';
    return out;
}

static result need_number(const cJSON *json, const char *key, uint32_t least, uint32_t most,
                          uint32_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    if (!cJSON_IsNumber(item)) return fail(E_INVALID, "config.json: no number \"%s\"", key);
    double v = item->valuedouble;
    if (!(v >= least && v <= most) || v != (double)(uint32_t)v)
        return fail(E_INVALID, "config.json: \"%s\" is not a whole number of %u to %u", key, least,
                    most);
    *out = (uint32_t)v;
    return OK;
}

static result get_bool(const cJSON *json, const char *key, bool otherwise, bool *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    *out = otherwise;
    if (item == NULL || cJSON_IsNull(item)) return OK;
    if (!cJSON_IsBool(item)) return fail(E_INVALID, "config.json: \"%s\" is not a boolean", key);
    *out = cJSON_IsTrue(item);
    return OK;
}

static result parse_architecture(model_config *c, const cJSON *json)
{
    char name[48];
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(json, "model_type");
    if (!cJSON_IsString(type)) return fail(E_INVALID, "config.json: no \"model_type\"");
    if (strcmp(type->valuestring, "mamba") == 0) c->architecture = ARCHITECTURE_MAMBA;
    else if (strcmp(type->valuestring, "mamba2") == 0) c->architecture = ARCHITECTURE_MAMBA2;
    else
        return fail(E_UNIMPLEMENTED, "config.json: model type \"%s\" is not supported (mamba and mamba2 are)",
                    printable(type->valuestring, name));
    const char *want = architecture_name(c->architecture);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "architectures");
    const cJSON *first = cJSON_IsArray(list) ? list->child : NULL;
    if (cJSON_IsString(first) && strcmp(first->valuestring, want) != 0)
        return fail(E_UNIMPLEMENTED, "config.json: architecture \"%s\" is not supported (%s is)",
                    printable(first->valuestring, name), want);
    const cJSON *act = cJSON_GetObjectItemCaseSensitive(json, "hidden_act");
    if (act != NULL && !(cJSON_IsString(act) && (strcmp(act->valuestring, "silu") == 0 ||
                                                 strcmp(act->valuestring, "swish") == 0)))
        return fail(E_UNIMPLEMENTED, "config.json: only \"hidden_act\": \"silu\" is supported");
    bool rms = true;
    TRY(get_bool(json, "rms_norm", true, &rms));
    if (!rms) return fail(E_UNIMPLEMENTED, "config.json: only \"rms_norm\": true is supported");
    return OK;
}

/* The rank of Mamba-1's step projection. */
static result parse_rank(model_config *c, const cJSON *json)
{
    const cJSON *rank = cJSON_GetObjectItemCaseSensitive(json, "time_step_rank");
    if (rank == NULL || (cJSON_IsString(rank) && strcmp(rank->valuestring, "auto") == 0)) {
        c->dt_rank = (c->d_model + 15) / 16;
        return OK;
    }
    return need_number(json, "time_step_rank", 1, CONFIG_D_MODEL_MAX, &c->dt_rank);
}

/* A bound of the step: a number, or infinity as {"__float__": "Infinity"} (transformers from 5 on). */
static bool step_bound(const cJSON *item, float *out)
{
    const cJSON *special = cJSON_GetObjectItemCaseSensitive(item, "__float__");
    double v = -1;
    if (cJSON_IsNumber(item)) v = item->valuedouble;
    else if (cJSON_IsString(special) && strcmp(special->valuestring, "Infinity") == 0) v = INFINITY;
    *out = v > (double)FLT_MAX ? INFINITY : (float)v;
    return v >= 0;
}

static result parse_step_limit(model_config *c, const cJSON *json)
{
    c->dt_min = 0;
    c->dt_max = INFINITY;
    const cJSON *limit = cJSON_GetObjectItemCaseSensitive(json, "time_step_limit");
    if (limit == NULL || cJSON_IsNull(limit)) return OK;
    if (!cJSON_IsArray(limit) || cJSON_GetArraySize(limit) != 2 || !step_bound(limit->child, &c->dt_min) ||
        !step_bound(limit->child->next, &c->dt_max) || !(c->dt_min <= c->dt_max) || isinf(c->dt_min))
        return fail(E_INVALID, "config.json: \"time_step_limit\" is not two numbers, 0 <= least <= most");
    return OK;
}

/* Mamba-2's heads, and the groups of heads that share B and C. */
static result parse_heads(model_config *c, const cJSON *json)
{
    TRY(need_number(json, "num_heads", 1, CONFIG_HEADS_MAX, &c->heads));
    TRY(need_number(json, "head_dim", 1, CONFIG_HEAD_DIM_MAX, &c->head_dim));
    TRY(need_number(json, "n_groups", 1, CONFIG_GROUPS_MAX, &c->groups));
    if (c->heads * c->head_dim != c->d_inner)
        return fail(E_INVALID,
                    "config.json: \"num_heads\" times \"head_dim\" is %u, \"expand\" times \"hidden_size\" %u",
                    c->heads * c->head_dim, c->d_inner);
    if (c->heads % c->groups != 0)
        return fail(E_INVALID, "config.json: \"n_groups\" %u does not divide \"num_heads\" %u", c->groups,
                    c->heads);
    return parse_step_limit(c, json);
}

/* The mixer's width: intermediate_size or expand * hidden_size, with Mamba-2 the latter and nothing else. */
static result parse_width(model_config *c, const cJSON *json)
{
    uint32_t expand = 2;
    bool given = cJSON_HasObjectItem(json, "intermediate_size");
    if (given) TRY(need_number(json, "intermediate_size", 1, CONFIG_D_INNER_MAX, &c->d_inner));
    if (given && c->architecture == ARCHITECTURE_MAMBA) return OK;
    if (cJSON_HasObjectItem(json, "expand")) TRY(need_number(json, "expand", 1, 16, &expand));
    uint32_t width = expand * c->d_model;
    if (width > CONFIG_D_INNER_MAX)
        return fail(E_INVALID, "config.json: \"expand\" times \"hidden_size\" is above %d", CONFIG_D_INNER_MAX);
    if (given && c->d_inner != width)
        return fail(E_INVALID, "config.json: \"intermediate_size\" is not \"expand\" times \"hidden_size\"");
    c->d_inner = width;
    return OK;
}

static result parse_sizes(model_config *c, const cJSON *json)
{
    TRY(need_number(json, "hidden_size", 1, CONFIG_D_MODEL_MAX, &c->d_model));
    TRY(need_number(json, "vocab_size", 1, CONFIG_VOCAB_MAX, &c->vocab_size));
    TRY(need_number(json, "num_hidden_layers", 1, CONFIG_LAYERS_MAX, &c->layers));
    TRY(need_number(json, "state_size", 1, CONFIG_STATE_MAX, &c->d_state));
    TRY(need_number(json, "conv_kernel", CONFIG_CONV_MIN, CONFIG_CONV_MAX, &c->d_conv));
    TRY(parse_width(c, json));
    return c->architecture == ARCHITECTURE_MAMBA2 ? parse_heads(c, json) : parse_rank(c, json);
}

static result parse_rest(model_config *c, const cJSON *json)
{
    c->norm_epsilon = 1e-5f;
    const cJSON *eps = cJSON_GetObjectItemCaseSensitive(json, "layer_norm_epsilon");
    if (eps != NULL) {
        if (!cJSON_IsNumber(eps) || !(eps->valuedouble > 0 && eps->valuedouble <= 1))
            return fail(E_INVALID, "config.json: \"layer_norm_epsilon\" is not within (0, 1]");
        c->norm_epsilon = (float)eps->valuedouble;
    }
    TRY(get_bool(json, "use_bias", false, &c->use_bias));
    TRY(get_bool(json, "use_conv_bias", true, &c->use_conv_bias));
    bool fp32 = true;
    TRY(get_bool(json, "residual_in_fp32", true, &fp32));   /* everything here is float32 anyway */
    bool tie_true = false, tie_default = true;
    TRY(get_bool(json, "tie_word_embeddings", false, &tie_true));
    TRY(get_bool(json, "tie_word_embeddings", true, &tie_default));
    c->tied = tie_true;
    c->untied = !tie_default;
    c->eos_token = -1;
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(json, "eos_token_id");
    if (cJSON_IsArray(eos)) eos = eos->child;              /* several: the first one ends answers */
    if (eos == NULL || cJSON_IsNull(eos)) return OK;
    double id = cJSON_IsNumber(eos) ? eos->valuedouble : -1;
    if (!(id >= 0 && id < c->vocab_size) || id != (double)(int32_t)id)
        return fail(E_INVALID, "config.json: \"eos_token_id\" is not an id of the vocabulary");
    c->eos_token = (int32_t)id;
    return OK;
}

/* Python writes an infinite float as the bare word Infinity, which is not JSON: outside strings it becomes
 * a number that is read as infinite, of the same length. */
static void mend_infinity(char *json, size_t size)
{
    static const char word[] = "Infinity", number[] = "1e999   ";
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted && json[i] == '\\') i++;
        else if (json[i] == '"') quoted = !quoted;
        else if (!quoted && size - i >= sizeof word - 1 && memcmp(json + i, word, sizeof word - 1) == 0)
            memcpy(json + i, number, sizeof word - 1);
    }
}

result model_config_parse(model_config *out, bytes json)
{
    *out = (model_config){0};
    if (json.size > CONFIG_FILE_MAX_BYTES) return fail(E_INVALID, "config.json is too large");
    char *text = mem_alloc(json.size + 1);
    if (json.size > 0) memcpy(text, json.data, json.size);
    mend_infinity(text, json.size);
    cJSON *root = cJSON_ParseWithLength(text, json.size);
    mem_free(text);
    result r = OK;
    if (!cJSON_IsObject(root)) {
        r = fail(E_INVALID, "config.json is not a JSON object");
        goto out;
    }
    TRY_TO(r, parse_architecture(out, root), out);
    TRY_TO(r, parse_sizes(out, root), out);
    TRY_TO(r, parse_rest(out, root), out);
out:
    cJSON_Delete(root);
    return r;
}
