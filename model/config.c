/* config.json as transformers' MambaConfig and Mamba2Config write it. Key names and defaults: theirs.
 * "lethe" is what model/train writes. */
#include "config.h"
#include "mutant.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
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

/* name: what errors call it. */
static result number_of(const cJSON *item, const char *name, uint32_t least, uint32_t most, uint32_t *out)
{
    if (!cJSON_IsNumber(item)) return fail(E_INVALID, "config.json: no number \"%s\"", name);
    double v = item->valuedouble;
    if (!(v >= least && v <= most) || v != (double)(uint32_t)v)
        return fail(E_INVALID, "config.json: \"%s\" is not a whole number of %u to %u", name, least, most);
    *out = (uint32_t)v;
    return OK;
}

static result need_number(const cJSON *json, const char *key, uint32_t least, uint32_t most,
                          uint32_t *out)
{
    return number_of(cJSON_GetObjectItemCaseSensitive(json, key), key, least, most, out);
}

static result bool_of(const cJSON *item, const char *name, bool otherwise, bool *out)
{
    *out = otherwise;
    if (item == NULL || cJSON_IsNull(item)) return OK;
    if (!cJSON_IsBool(item)) return fail(E_INVALID, "config.json: \"%s\" is not a boolean", name);
    *out = cJSON_IsTrue(item);
    return OK;
}

static result get_bool(const cJSON *json, const char *key, bool otherwise, bool *out)
{
    return bool_of(cJSON_GetObjectItemCaseSensitive(json, key), key, otherwise, out);
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

/* The file as an object; NULL after an error. */
static result parse_object(cJSON **out, bytes json)
{
    *out = NULL;
    if (json.size > CONFIG_FILE_MAX_BYTES) return fail(E_INVALID, "config.json is too large");
    char *text = mem_alloc(json.size + 1);
    if (json.size > 0) memcpy(text, json.data, json.size);
    mend_infinity(text, json.size);
    cJSON *root = cJSON_ParseWithLength(text, json.size);
    mem_free(text);
    if (cJSON_IsObject(root)) {
        *out = root;
        return OK;
    }
    cJSON_Delete(root);
    return fail(E_INVALID, "config.json is not a JSON object");
}

result model_config_parse(model_config *out, bytes json)
{
    *out = (model_config){0};
    cJSON *root;
    TRY(parse_object(&root, json));
    result r = OK;
    TRY_TO(r, parse_architecture(out, root), out);
    TRY_TO(r, parse_sizes(out, root), out);
    TRY_TO(r, parse_rest(out, root), out);
out:
    cJSON_Delete(root);
    return r;
}

/* ---- "lethe" ------------------------------------------------------------------------------------------------- */
/* An entry by its full name, "lethe.start". */
static const cJSON *entry(const cJSON *lethe, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(lethe, name + sizeof "lethe." - 1);
}

static bool is_given(const cJSON *lethe, const char *name)
{
    const cJSON *item = entry(lethe, name);
    return item != NULL && !cJSON_IsNull(item);
}

static result marks_token(const cJSON *lethe, const char *name, uint32_t vocab_size, uint32_t *out)
{
    return number_of(entry(lethe, name), name, 0, vocab_size - 1, out);
}

static result marks_number(const cJSON *lethe, const char *name, uint32_t otherwise, uint32_t least, uint32_t most,
                           uint32_t *out)
{
    *out = otherwise;
    return is_given(lethe, name) ? number_of(entry(lethe, name), name, least, most, out) : OK;
}

/* The special tokens, each its own. */
static result parse_marks_tokens(model_marks *m, const cJSON *lethe, uint32_t vocab_size)
{
    uint32_t seen = 0;
    bool given = is_given(lethe, "lethe.seen");
    TRY(marks_token(lethe, "lethe.none", vocab_size, &m->none));
    TRY(marks_token(lethe, "lethe.start", vocab_size, &m->start));
    TRY(marks_token(lethe, "lethe.stop", vocab_size, &m->stop));
    if (given) TRY(marks_token(lethe, "lethe.seen", vocab_size, &seen));
    m->seen = given ? (int64_t)seen : -1;
    bool same = m->none == m->start || m->none == m->stop || m->start == m->stop ||
                m->seen == m->none || m->seen == m->start || m->seen == m->stop;
    if (same && !MUTANT(marks_alike))
        return fail(E_INVALID, "config.json: \"lethe.none\", \"start\", \"stop\" and \"seen\" are not different tokens");
    return OK;
}

static result parse_marks_layout(model_marks *m, const cJSON *lethe)
{
    TRY(marks_number(lethe, "lethe.stem_letters", 5, 1, CONFIG_STEM_LETTERS_MAX, &m->stem_letters));
    TRY(marks_number(lethe, "lethe.span_tokens_max", 24, 1, CONFIG_SPAN_TOKENS_MAX, &m->span_tokens_max));
    TRY(marks_number(lethe, "lethe.repeats", 2, 1, CONFIG_REPEATS_MAX, &m->repeats));
    TRY(marks_number(lethe, "lethe.sentences_tokens", 0, 0, CONFIG_SENTENCES_TOKENS_MAX, &m->sentences_tokens));
    if (m->sentences_tokens > 0 && m->sentences_tokens < CONFIG_SENTENCES_TOKENS_MIN)
        return fail(E_INVALID, "config.json: \"lethe.sentences_tokens\" is neither 0 nor %d to %d",
                    CONFIG_SENTENCES_TOKENS_MIN, CONFIG_SENTENCES_TOKENS_MAX);
    const cJSON *bias = entry(lethe, "lethe.none_bias");
    if (is_given(lethe, "lethe.none_bias")) {
        if (!cJSON_IsNumber(bias) || !(fabs(bias->valuedouble) <= CONFIG_NONE_BIAS_MAX))
            return fail(E_INVALID, "config.json: \"lethe.none_bias\" is not a number of -%d to %d", CONFIG_NONE_BIAS_MAX,
                        CONFIG_NONE_BIAS_MAX);
        m->none_bias = bias->valuedouble;
    }
    return bool_of(entry(lethe, "lethe.writes"), "lethe.writes", true, &m->writes);
}

/* A stem as it can be looked up: text without capitals. */
static bool is_stem(const cJSON *item)
{
    if (!cJSON_IsString(item) || item->valuestring[0] == '\0') return false;
    for (const char *c = item->valuestring; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z') return false;
    return utf8_valid(bytes_of(item->valuestring, strlen(item->valuestring)));
}

/* How many stems "frequent" has, and the bytes of them all with their ends. */
static result measure_frequent(const cJSON *list, size_t *count, size_t *size)
{
    *count = *size = 0;
    if (list == NULL || cJSON_IsNull(list)) return OK;
    if (!cJSON_IsArray(list)) return fail(E_INVALID, "config.json: \"lethe.frequent\" is not a list");
    for (const cJSON *item = list->child; item != NULL; item = item->next, ++*count) {
        if (!is_stem(item)) return fail(E_INVALID, "config.json: \"lethe.frequent\" has an entry that is no lower-case text");
        *size += strlen(item->valuestring) + 1;
    }
    if (*count > CONFIG_FREQUENT_MAX)
        return fail(E_INVALID, "config.json: \"lethe.frequent\" has more than %d stems", CONFIG_FREQUENT_MAX);
    return OK;
}

static int compare_stems(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The marks and, in the same piece, the list and text of their stems. */
static model_marks *join_frequent(const model_marks *marks, const cJSON *list, size_t count, size_t size)
{
    model_marks *m = mem_alloc(sizeof *m + count * sizeof(char *) + size);
    const char **stems = (const char **)(m + 1);
    char *text = (char *)(stems + count);
    *m = *marks;
    m->frequent = stems;
    m->frequent_count = count;
    const cJSON *item = count > 0 ? list->child : NULL;
    for (size_t i = 0; i < count; i++, item = item->next) {
        size_t n = strlen(item->valuestring) + 1;
        stems[i] = memcpy(text, item->valuestring, n);
        text += n;
    }
    if (count > 0) qsort(stems, count, sizeof *stems, compare_stems);
    return m;
}

static result parse_marks(model_marks **out, const cJSON *lethe, uint32_t vocab_size)
{
    model_marks m = {0};
    size_t count, size;
    if (!cJSON_IsObject(lethe)) return fail(E_INVALID, "config.json: \"lethe\" is not an object");
    const cJSON *list = entry(lethe, "lethe.frequent");
    TRY(parse_marks_tokens(&m, lethe, vocab_size));
    TRY(parse_marks_layout(&m, lethe));
    TRY(measure_frequent(list, &count, &size));
    *out = join_frequent(&m, list, count, size);
    return OK;
}

result model_marks_parse(model_marks **out, bytes json, uint32_t vocab_size)
{
    ASSERT(vocab_size > 0);
    *out = NULL;
    cJSON *root;
    TRY(parse_object(&root, json));
    const cJSON *lethe = cJSON_GetObjectItemCaseSensitive(root, "lethe");
    result r = lethe == NULL || cJSON_IsNull(lethe) ? OK : parse_marks(out, lethe, vocab_size);
    cJSON_Delete(root);
    return r;
}
