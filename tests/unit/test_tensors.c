/* tensors: what is well formed is read; everything else is refused with E_INVALID. */
#include "tensors.h"
#include "test.h"

#include <math.h>
#include <unistd.h>

/* A file of the header text and data_size bytes 0, 1, 2, ... The header's claimed size is its true
 * one plus lie. */
static void make_file(buf *out, const char *header, size_t data_size, int64_t lie)
{
    buf_init(out, 1 << 20);
    buf_append_u64(out, (uint64_t)((int64_t)strlen(header) + lie));
    buf_append_str(out, header);
    for (size_t i = 0; i < data_size; i++) buf_append_u8(out, (uint8_t)i);
}

static error_code code_of(const char *header, size_t data_size, int64_t lie)
{
    buf file;
    tensors *t;
    make_file(&file, header, data_size, lie);
    uint8_t *exact = mem_alloc(file.size);            /* a sanitizer sees one byte too far */
    memcpy(exact, file.data, file.size);
    result r = tensors_open_memory(&t, bytes_of(exact, file.size));
    CHECK(is_ok(r) == (t != NULL));
    tensors_close(&t);
    mem_free(exact);
    buf_free(&file);
    return r.code;
}

static const char TWO[] = "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[4,12]},"
    "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}  ";

static void good_files_are_read(void)
{
    buf file;
    tensors *t;
    const tensor *found;
    make_file(&file, TWO, 12, 0);
    CHECK_OK(tensors_open_memory(&t, buf_bytes(&file)));
    NEED(t != NULL && tensors_count(t) == 2);
    CHECK(strcmp(tensors_at(t, 0)->name, "a") == 0 && strcmp(tensors_at(t, 1)->name, "b") == 0);
    const tensor *b = tensors_find(t, "b");
    NEED(b != NULL);
    CHECK(b->type == TENSOR_F32 && b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 1);
    CHECK(b->size_bytes == 8 && b->data[0] == 4 && tensor_elements(b) == 2);
    CHECK(tensors_find(t, "c") == NULL && tensors_find(t, "") == NULL);
    CHECK_OK(tensors_expect(t, "b", 2, (uint64_t[]){2, 1}, &found));
    CHECK(found == b);
    result r = tensors_expect(t, "b", 2, (uint64_t[]){1, 2}, &found);
    CHECK(r.code == E_INVALID && found == NULL);
    CHECK(strstr(r.message, "[2, 1]") != NULL && strstr(r.message, "[1, 2]") != NULL);
    CHECK_FAILS(tensors_expect(t, "b", 1, (uint64_t[]){2}, &found), E_INVALID);
    CHECK_FAILS(tensors_expect(t, "zz", 1, (uint64_t[]){2}, &found), E_INVALID);
    tensors_close(&t);
    CHECK(t == NULL);
    buf_free(&file);
}

static void odd_but_good_files(void)
{
    CHECK(code_of("{}", 0, 0) == E_OK);
    CHECK(code_of("{\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 0)
          == E_OK);
    CHECK(code_of("{\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
                  "\"f\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                  "\"g\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[1,1]}}", 1, 0) == E_OK);
}

static void truncation_is_noticed_everywhere(void)
{
    buf file;
    make_file(&file, TWO, 12, 0);
    for (size_t n = 0; n < file.size; n++) {
        tensors *t;
        uint8_t *exact = mem_alloc(n);
        memcpy(exact, file.data, n);
        CHECK_FAILS(tensors_open_memory(&t, bytes_of(exact, n)), E_INVALID);
        CHECK(t == NULL);
        mem_free(exact);
    }
    buf_append_u8(&file, 0);
    tensors *t;
    CHECK_FAILS(tensors_open_memory(&t, buf_bytes(&file)), E_INVALID);
    buf_free(&file);
}

static void lying_headers(void)
{
    CHECK(code_of(TWO, 12, 1) == E_INVALID);          /* swallows a byte of data */
    CHECK(code_of(TWO, 12, 13) == E_INVALID);
    CHECK(code_of(TWO, 12, -3) == E_INVALID);
    CHECK(code_of(TWO, 12, 99999999) == E_INVALID);
    CHECK(code_of(TWO, 12, INT64_MAX / 2) == E_INVALID);
    CHECK(code_of(TWO, 12, -(int64_t)strlen(TWO)) == E_INVALID);          /* 0 */
    CHECK(code_of(TWO, 12, -(int64_t)strlen(TWO) - 1) == E_INVALID);      /* 2^64 - 1 */
}

/* One tensor "a" with these members, over 4 bytes of data. */
static error_code one(const char *members)
{
    char header[600];
    snprintf(header, sizeof header, "{\"a\":{%s}}", members);
    return code_of(header, 4, 0);
}

static void bad_entries(void)
{
    CHECK(one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]") == E_OK);
    static const char *const bad[] = {
        "\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]",
        "\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]",
        "\"shape\":[1],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[1]",
        "\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]",
        "\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,1e300]",
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1",
        "\"dtype\":\"F32\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,4]",
        "\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]",
        "\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]",
        "\"dtype\":\"F32\",\"shape\":[1e18,1e18],\"data_offsets\":[0,4]",
        "\"dtype\":\"U8\",\"shape\":[0,4294967296,4294967296],\"data_offsets\":[0,0]",
        "\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]",
        "\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]",
        "",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error_code code = one(bad[i]);
        if (code != E_INVALID) printf("# bad[%zu] gave %s\n", i, error_code_name(code));
        CHECK(code == E_INVALID);
    }
}

#define U8_AT(name, begin, end, n) \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" n "],\"data_offsets\":[" begin "," end "]}"

static void tiles_fill_the_data_exactly(void)
{
    CHECK(code_of("{" U8_AT("b", "2", "4", "2") ","
                  U8_AT("a", "0", "2", "2") "}", 4, 0) == E_OK);
    CHECK(code_of("{" U8_AT("a", "0", "2", "2") ","
                  U8_AT("b", "1", "4", "3") "}", 4, 0) == E_INVALID);
    CHECK(code_of("{" U8_AT("a", "0", "1", "1") ","
                  U8_AT("b", "2", "4", "2") "}", 4, 0) == E_INVALID);
    CHECK(code_of("{" U8_AT("a", "0", "4", "4") ","
                  U8_AT("b", "0", "4", "4") "}", 4, 0) == E_INVALID);
    CHECK(code_of("{" U8_AT("a", "0", "4", "4") ","
                  U8_AT("b", "2", "2", "0") "}", 4, 0) == E_INVALID);
    CHECK(code_of("{" U8_AT("a", "0", "2", "2") ","
                  U8_AT("a", "2", "4", "2") "}", 4, 0) == E_INVALID);
    CHECK(code_of("{" U8_AT("a", "0", "4", "4") "}", 5, 0) == E_INVALID);
    CHECK(code_of("{}", 1, 0) == E_INVALID);
}

static void bad_json(void)
{
    static const char *const bad[] = {
        "", "[]", "nul", "{", "{}{}", "{} x", " {}", "{\"a\":1}", "{\"a\":[]}", "{\"a\":null}",
        "{\"__metadata__\":1}", "{\"__metadata__\":{},\"__metadata__\":{}}", "{\"\xff\":{}}",
        "{\"a\":{\"b\":[[[[[[[[[[1]]]]]]]]]]}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(code_of(bad[i], 0, 0) == E_INVALID);
    /* nesting and the number of values are bounded before anything is allocated for them */
    size_t n = 2000000;
    buf file, deep;
    buf_init(&file, 1 << 22);
    buf_init(&deep, 1 << 22);
    buf_append_str(&deep, "{\"a\":");
    for (size_t i = 0; i < n; i++) buf_append_u8(&deep, '[');
    buf_append_u64(&file, deep.size);
    buf_append(&file, deep.data, deep.size);
    tensors *t;
    CHECK_FAILS(tensors_open_memory(&t, buf_bytes(&file)), E_INVALID);
    for (size_t i = 14; i < file.size - 1; i++) file.data[i] = i % 2 ? ',' : '1';
    CHECK_FAILS(tensors_open_memory(&t, buf_bytes(&file)), E_INVALID);
    buf_free(&file);
    buf_free(&deep);
}

static void too_many_tensors(void)
{
    buf file, header;
    buf_init(&header, 4 << 20);
    buf_init(&file, 4 << 20);
    buf_append_u8(&header, '{');
    for (int i = 0; i <= 16384; i++)
        buf_printf(&header, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                   i ? "," : "", i);
    buf_append_u8(&header, '}');
    buf_append_u64(&file, header.size);
    buf_append(&file, header.data, header.size);
    tensors *t;
    CHECK_FAILS(tensors_open_memory(&t, buf_bytes(&file)), E_INVALID);
    buf_free(&file);
    buf_free(&header);
}

static tensor of_type(tensor_type type, uint64_t n, const void *data)
{
    return (tensor){.name = "x", .type = type, .rank = 1, .shape = {n}, .data = data};
}

static void conversions_are_exact(void)
{
    float out[8];
    const uint16_t half[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x03ff};
    tensor t = of_type(TENSOR_F16, 8, half);
    CHECK_OK(tensor_to_f32(&t, out));
    CHECK(out[0] == 0 && signbit(out[1]) && out[2] == 1 && out[3] == -2 && out[4] == 65504);
    CHECK(out[5] == 0x1p-24f && isinf(out[6]) && out[7] == 0x1.ff8p-15f);
    const uint16_t brain[] = {0x3f80, 0xc040, 0x0001, 0x7fc0};
    t = of_type(TENSOR_BF16, 4, brain);
    CHECK_OK(tensor_to_f32(&t, out));
    CHECK(out[0] == 1 && out[1] == -3 && out[2] == 0x1p-133f && isnan(out[3]));
    const uint8_t odd[9] = {0, 0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x80, 0xff};
    t = of_type(TENSOR_F32, 1, odd + 1);              /* unaligned */
    CHECK_OK(tensor_to_f32(&t, out));
    CHECK(out[0] == 1.5f);
    t = of_type(TENSOR_I8, 2, odd + 7);
    CHECK_OK(tensor_to_f32(&t, out));
    CHECK(out[0] == -128 && out[1] == -1);
    t.type = TENSOR_U8;
    CHECK_OK(tensor_to_f32(&t, out));
    CHECK(out[0] == 128 && out[1] == 255);
    t.type = TENSOR_I64;
    CHECK_FAILS(tensor_to_f32(&t, out), E_INVALID);
    t.shape[0] = 0;                                   /* found by the fuzzer: also when empty */
    CHECK_FAILS(tensor_to_f32(&t, out), E_INVALID);
}

static void write_file(const char *dir, const char *name, const char *text, size_t data_size)
{
    char path[600];
    buf file;
    CHECK_OK(path_join(path, sizeof path, dir, name));
    if (strstr(name, ".json") != NULL) {
        CHECK_OK(file_write_atomic(path, bytes_str(text), 0600));
        return;
    }
    make_file(&file, text, data_size, 0);
    CHECK_OK(file_write_atomic(path, buf_bytes(&file), 0600));
    buf_free(&file);
}

static error_code open_code(const char *path)
{
    tensors *t;
    result r = tensors_open(&t, path);
    CHECK(strstr(r.message, "lethe-test") == NULL);   /* names the file, not the folder */
    tensors_close(&t);
    return r.code;
}

static void folders_and_shards(void)
{
    char dir[256], path[600];
    tensors *t;
    test_tmpdir(dir);
    CHECK(open_code("/nonexistent/model") == E_NOT_FOUND);
    CHECK(open_code(dir) == E_NOT_FOUND);
    write_file(dir, "one.safetensors", "{" U8_AT("a", "0", "4", "4") "}", 4);
    write_file(dir, "two.safetensors", "{" U8_AT("b", "0", "2", "2") "}", 2);
    const char *index = "model.safetensors.index.json";
    static const char *const bad[] = {
        "", "{}", "{\"weight_map\":[]}", "{\"weight_map\":{\"a\":1}}",
        "{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "{\"weight_map\":{\"a\":\"\"}}",
        "{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(dir, index, bad[i], 0);
        CHECK(open_code(dir) == E_INVALID);
    }
    write_file(dir, index, "{\"weight_map\":{\"a\":\"absent.safetensors\"}}", 0);
    CHECK(open_code(dir) == E_NOT_FOUND);
    write_file(dir, index, "{\"metadata\":{\"total_size\":6},\"weight_map\":"
               "{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}", 0);
    CHECK_OK(tensors_open(&t, dir));
    NEED(t != NULL);
    CHECK(tensors_count(t) == 2 && tensors_find(t, "b")->data[1] == 1);
    tensors_close(&t);
    write_file(dir, "model.safetensors", TWO, 12);    /* the single file goes first */
    CHECK_OK(tensors_open(&t, dir));
    CHECK(tensors_find(t, "a")->size_bytes == 4);
    tensors_close(&t);
    CHECK_OK(path_join(path, sizeof path, dir, "two.safetensors"));
    CHECK(open_code(path) == E_OK);
    NEED(truncate(path, 3) == 0);
    CHECK(open_code(path) == E_INVALID);
    NEED(truncate(path, 0) == 0);
    CHECK(open_code(path) == E_INVALID);
    test_tmpdir_remove(dir);
}

int main(void)
{
    RUN(good_files_are_read);
    RUN(odd_but_good_files);
    RUN(truncation_is_noticed_everywhere);
    RUN(lying_headers);
    RUN(bad_entries);
    RUN(tiles_fill_the_data_exactly);
    RUN(bad_json);
    RUN(too_many_tensors);
    RUN(conversions_are_exact);
    RUN(folders_and_shards);
    return DONE();
}
