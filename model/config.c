/* config.json as transformers' MambaConfig writes it. Key names and defaults: MambaConfig. */
#include "config.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <string.h>

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

static result check_architecture(const cJSON *json)
{
    char name[48];
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(json, "model_type");
    if (!cJSON_IsString(type)) return fail(E_INVALID, "config.json: no \"model_type\"");
    if (strcmp(type->valuestring, "mamba") != 0)
        return fail(E_UNIMPLEMENTED, "config.json: model type \"%s\" is not supported (mamba is)",
                    printable(type->valuestring, name));
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "architectures");
    const cJSON *first = cJSON_IsArray(list) ? list->child : NULL;
    if (cJSON_IsString(first) && strcmp(first->valuestring, "MambaForCausalLM") != 0)
        return fail(E_UNIMPLEMENTED,
                    "config.json: architecture \"%s\" is not supported (MambaForCausalLM is)",
                    printable(first->valuestring, name));
    const cJSON *act = cJSON_GetObjectItemCaseSensitive(json, "hidden_act");
    if (act != NULL && !(cJSON_IsString(act) && (strcmp(act->valuestring, "silu") == 0 ||
                                                 strcmp(act->valuestring, "swish") == 0)))
        return fail(E_UNIMPLEMENTED, "config.json: only \"hidden_act\": \"silu\" is supported");
    bool rms = true;
    TRY(get_bool(json, "rms_norm", true, &rms));
    if (!rms) return fail(E_UNIMPLEMENTED, "config.json: only \"rms_norm\": true is supported");
    return OK;
}

static result parse_sizes(model_config *c, const cJSON *json)
{
    TRY(need_number(json, "hidden_size", 1, CONFIG_D_MODEL_MAX, &c->d_model));
    TRY(need_number(json, "vocab_size", 1, CONFIG_VOCAB_MAX, &c->vocab_size));
    TRY(need_number(json, "num_hidden_layers", 1, CONFIG_LAYERS_MAX, &c->layers));
    TRY(need_number(json, "state_size", 1, CONFIG_STATE_MAX, &c->d_state));
    TRY(need_number(json, "conv_kernel", CONFIG_CONV_MIN, CONFIG_CONV_MAX, &c->d_conv));
    if (cJSON_HasObjectItem(json, "intermediate_size")) {
        TRY(need_number(json, "intermediate_size", 1, CONFIG_D_INNER_MAX, &c->d_inner));
    } else {
        uint32_t expand = 2;
        if (cJSON_HasObjectItem(json, "expand")) TRY(need_number(json, "expand", 1, 16, &expand));
        c->d_inner = expand * c->d_model;
        if (c->d_inner > CONFIG_D_INNER_MAX)
            return fail(E_INVALID, "config.json: \"expand\" times \"hidden_size\" is above %d",
                        CONFIG_D_INNER_MAX);
    }
    const cJSON *rank = cJSON_GetObjectItemCaseSensitive(json, "time_step_rank");
    if (rank == NULL || (cJSON_IsString(rank) && strcmp(rank->valuestring, "auto") == 0)) {
        c->dt_rank = (c->d_model + 15) / 16;
        return OK;
    }
    return need_number(json, "time_step_rank", 1, CONFIG_D_MODEL_MAX, &c->dt_rank);
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

result model_config_parse(model_config *out, bytes json)
{
    *out = (model_config){0};
    if (json.size > CONFIG_FILE_MAX_BYTES) return fail(E_INVALID, "config.json is too large");
    cJSON *root = cJSON_ParseWithLength((const char *)json.data, json.size);
    result r = OK;
    if (!cJSON_IsObject(root)) {
        r = fail(E_INVALID, "config.json is not a JSON object");
        goto out;
    }
    TRY_TO(r, check_architecture(root), out);
    TRY_TO(r, parse_sizes(out, root), out);
    TRY_TO(r, parse_rest(out, root), out);
out:
    cJSON_Delete(root);
    return r;
}
