/* Settings: defaults, files, flags, and words for everything that is wrong. */
#include "server/config.h"

#include "test.h"

static config *fresh(void)
{
    config *c = mem_alloc(sizeof *c);
    config_defaults(c);
    return c;
}

static void defaults(void)
{
    config *c = fresh();
    CHECK(strcmp(c->listen, "127.0.0.1:7443") == 0 && !c->plaintext);
    CHECK(c->passages_default == 5 && c->repeats_default == 2 && c->quota.concurrent_answers_max == 16);
    CHECK_FAILS(config_finish(c), E_INVALID);
    CHECK_OK(config_set(c, "data", "/somewhere/data/"));
    CHECK_OK(config_finish(c));
    CHECK(strcmp(c->root, "/somewhere/data.root") == 0);
    CHECK_OK(config_set(c, "root", "/somewhere/data/keys"));
    CHECK_FAILS(config_finish(c), E_INVALID);            /* a copy of the data would have its key */
    CHECK_OK(config_set(c, "root", "/somewhere/data"));
    CHECK_FAILS(config_finish(c), E_INVALID);
    CHECK_OK(config_set(c, "root", "/somewhere/database"));
    CHECK_OK(config_finish(c));
    CHECK_OK(config_set(c, "model_precision", "q5"));
    CHECK_FAILS(config_finish(c), E_INVALID);
    CHECK_OK(config_set(c, "model_precision", "q4"));
    CHECK_OK(config_finish(c));
    CHECK_OK(config_set(c, "model_backend", "gpu"));
    CHECK_FAILS(config_finish(c), E_INVALID);
    CHECK_OK(config_set(c, "model_backend", "cuda-or-cpu"));
    CHECK_FAILS(config_finish(c), E_INVALID);            /* in the sandbox */
    CHECK_OK(config_set(c, "sandbox", "off"));
    CHECK_OK(config_finish(c));
    mem_free(c);
}

static void root_on_a_token(void)
{
    config *c = fresh();
    CHECK_OK(config_set(c, "data", "/d"));
    CHECK_OK(config_set(c, "root_holder", "tpm"));
    CHECK_FAILS(config_finish(c), E_INVALID);
    CHECK_OK(config_set(c, "root_holder", "pkcs11"));
    CHECK_FAILS(config_finish(c), E_INVALID);
    CHECK_OK(config_set(c, "pkcs11_module", "/usr/lib/module.so"));
    CHECK_OK(config_set(c, "pkcs11_token", "lethe"));
    CHECK_OK(config_set(c, "pkcs11_pin_file", "pin"));
    CHECK_FAILS(config_finish(c), E_INVALID);
    CHECK_OK(config_set(c, "pkcs11_pin_file", "/d/pin"));
    CHECK_FAILS(config_finish(c), E_INVALID);            /* a copy of the data would have the PIN */
    CHECK_OK(config_set(c, "pkcs11_pin_file", "/p/pin"));
    CHECK_OK(config_finish(c));
    mem_free(c);
}

static void file(void)
{
    config *c = fresh();
    CHECK_OK(config_parse(c, "# a comment\n[server]\nlisten = [::1]:9\nplaintext = yes\n"
                             "[quota]\nquota_documents = 12\nstate_cache_bytes=0\n"));
    CHECK(strcmp(c->listen, "[::1]:9") == 0 && c->plaintext && c->quota.documents_max == 12);
    CHECK(c->state_cache_bytes == 0);
    mem_free(c);
}

static void refused(void)
{
    static const struct { const char *text, *word; } bad[] = {
        {"listne = x\n", "listne"}, {"\n\nbatch_max = 65\n", "line 3"}, {"batch_max = 0\n", "1 to 64"},
        {"batch_max = -1\n", "1 to 64"}, {"batch_max = 7x\n", "whole number"},
        {"batch_max =\n", "whole number"}, {"plaintext = maybe\n", "true nor false"},
        {"no equals sign\n", "line 1"}, {"grace_ms = 99999999999999999999999\n", "whole number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        config *c = fresh();
        result r = config_parse(c, bad[i].text);
        CHECK(r.code == E_INVALID && strstr(r.message, bad[i].word) != NULL);
        mem_free(c);
    }
    config *c = fresh();
    CHECK_OK(config_set(c, "data", "/d"));
    CHECK_OK(config_set(c, "tokens_default", "100"));
    CHECK_OK(config_set(c, "tokens_max", "50"));
    CHECK_FAILS(config_finish(c), E_INVALID);
    mem_free(c);
}

/* A bad value leaves what stood there. */
static void nothing_half_set(void)
{
    config *c = fresh();
    CHECK_FAILS(config_set(c, "batch_max", "1000"), E_INVALID);
    CHECK(c->batch_max == 16);
    mem_free(c);
}

static void described(void)
{
    buf text;
    buf_init(&text, 1 << 16);
    config_describe(&text);
    CHECK_OK(buf_check(&text));
    CHECK(strstr((const char *)text.data, "| `batch_max` | 16 | 1 to 64 |") != NULL);
    buf_free(&text);
}

int main(void)
{
    RUN(defaults);
    RUN(root_on_a_token);
    RUN(file);
    RUN(refused);
    RUN(nothing_half_set);
    RUN(described);
    return DONE();
}
