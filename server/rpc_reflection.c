/* grpc.reflection, v1alpha and v1 (equal but for the package's name); see
 * proto/grpc/reflection/v1/reflection.proto. Answers come from the descriptor set's own bytes; the
 * field numbers of FileDescriptorProto and its parts are those of google/protobuf/descriptor.proto. */
#include "rpc_builtin.h"
#include "rpc_wire.h"

#include <string.h>

enum { REQUEST_MAX_BYTES = 4096, RESPONSE_MAX_BYTES = 2 << 20, FILES_MAX = 128 };

/* ServerReflectionRequest and ServerReflectionResponse. */
enum { ASK_FILE = 3, ASK_SYMBOL = 4, ASK_EXTENSION = 5, ASK_EXTENSION_NUMBERS = 6,
    ASK_SERVICES = 7 };
enum { TELL_HOST = 1, TELL_REQUEST = 2, TELL_FILES = 4, TELL_EXTENSION_NUMBERS = 5,
    TELL_SERVICES = 6,
       TELL_ERROR = 7 };

const rpc_builtin_method rpc_builtin_methods[] = {
    {{"/grpc.health.v1.Health/Check", health_check}, false},
    {{"/grpc.health.v1.Health/Watch", health_watch}, false},
    {{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", reflection_info}, true},
    {{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", reflection_info}, true},
};
const size_t rpc_builtin_method_count = sizeof rpc_builtin_methods / sizeof rpc_builtin_methods[0];

/* ---- the descriptor set ---------------------------------------------------------------------- */

typedef enum { LEVEL_FILE, LEVEL_MESSAGE, LEVEL_ENUM, LEVEL_SERVICE, LEVEL_LEAF } level;

/* What a field of a descriptor at this level declares; false: nothing with a name. */
static bool declares(level at, uint32_t field, level *what)
{
    static const struct { level at; uint32_t field; level what; } table[] = {
        {LEVEL_FILE, 4, LEVEL_MESSAGE}, {LEVEL_FILE, 5, LEVEL_ENUM}, {LEVEL_FILE, 6, LEVEL_SERVICE},
        {LEVEL_FILE, 7, LEVEL_LEAF}, {LEVEL_MESSAGE, 2, LEVEL_LEAF}, {LEVEL_MESSAGE, 3,
            LEVEL_MESSAGE},
        {LEVEL_MESSAGE, 4, LEVEL_ENUM}, {LEVEL_MESSAGE, 6, LEVEL_LEAF}, {LEVEL_MESSAGE, 8,
            LEVEL_LEAF},
        {LEVEL_ENUM, 2, LEVEL_LEAF}, {LEVEL_SERVICE, 2, LEVEL_LEAF},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].at != at || table[i].field != field) continue;
        *what = table[i].what;
        return true;
    }
    return false;
}

/* Finds the part called name in a scope. An enum's values belong to the scope around it. */
static bool scope_find(bytes scope, level at, bytes name, bytes *found, level *found_level)
{
    reader r = reader_of(scope);
    wire_field f;
    while (wire_next(&r, &f)) {
        level what, leaf;
        if (!f.delimited || !declares(at, f.number, &what)) continue;
        if (bytes_equal(wire_find(f.data, 1), name)) {
            *found = f.data;
            *found_level = what;
            return true;
        }
        if (what != LEVEL_ENUM) continue;
        reader values = reader_of(f.data);
        wire_field v;
        while (wire_next(&values, &v)) {
            if (!v.delimited || !declares(LEVEL_ENUM, v.number, &leaf)) continue;
            if (!bytes_equal(wire_find(v.data, 1), name)) continue;
            *found = v.data;
            *found_level = leaf;
            return true;
        }
    }
    return false;
}

/* Whether the file declares the full name; each turn of the loop eats one of its parts. */
static bool file_declares(bytes file, bytes symbol, level *what)
{
    bytes package = wire_find(file, 2);
    if (package.size > 0) {
        if (symbol.size <= package.size || symbol.data[package.size] != '.' ||
            !bytes_equal(bytes_of(symbol.data, package.size), package))
            return false;
        symbol = bytes_of(symbol.data + package.size + 1, symbol.size - package.size - 1);
    }
    bytes scope = file;
    *what = LEVEL_FILE;
    while (symbol.size > 0) {
        const uint8_t *dot = memchr(symbol.data, '.', symbol.size);
        size_t part = dot ? (size_t)(dot - symbol.data) : symbol.size;
        if (!scope_find(scope, *what, bytes_of(symbol.data, part), &scope, what)) return false;
        if (dot == NULL) return true;
        symbol = bytes_of(dot + 1, symbol.size - part - 1);
    }
    return false;
}

typedef struct { bytes list[FILES_MAX]; size_t count; } file_list;

static void files_load(file_list *files, bytes descriptor_set)
{
    files->count = 0;
    reader r = reader_of(descriptor_set);
    wire_field f;
    while (files->count < FILES_MAX && wire_next(&r, &f)) {
        if (f.number == 1 && f.delimited) files->list[files->count++] = f.data;
    }
}

static size_t file_by_name(const file_list *files, bytes name)
{
    size_t i = 0;
    while (i < files->count && !bytes_equal(wire_find(files->list[i], 1), name)) i++;
    return i;
}

static size_t file_by_symbol(const file_list *files, bytes symbol, level *what)
{
    size_t i = 0;
    while (i < files->count && !file_declares(files->list[i], symbol, what)) i++;
    return i;
}

/* FileDescriptorResponse: the file first, then everything it imports, each once. */
static void files_put(buf *out, const file_list *files, size_t first)
{
    size_t order[FILES_MAX], count = 0;
    bool known[FILES_MAX] = {false};
    order[count++] = first;
    known[first] = true;
    for (size_t i = 0; i < count; i++) {
        wire_put_bytes(out, 1, files->list[order[i]]);
        reader r = reader_of(files->list[order[i]]);
        wire_field f;
        while (wire_next(&r, &f)) {
            size_t import = f.number == 3 && f.delimited ? file_by_name(files,
                                                                        f.data) : files->count;
            if (import == files->count || known[import]) continue;
            known[import] = true;
            order[count++] = import;
        }
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static bytes service_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return bytes_of(path + 1, (size_t)(slash - path - 1));
}

static void service_put(buf *out, bytes name)
{
    buf item;
    buf_init(&item, REQUEST_MAX_BYTES);
    wire_put_bytes(&item, 1, name);
    wire_put_bytes(out, 1, buf_bytes(&item));
    buf_free(&item);
}

/* ListServiceResponse. A service's methods stand together in both tables. */
static void services_put(buf *out, const rpc_builtin *b)
{
    bytes last = bytes_of(NULL, 0);
    for (size_t i = 0; i < b->method_count + rpc_builtin_method_count; i++) {
        const char *path = i < b->method_count ? b->methods[i].path
                                               : rpc_builtin_methods[i - b->method_count].method.path;
        bytes name = service_of(path);
        if (!bytes_equal(name, last)) service_put(out, name);
        last = name;
    }
}

static void error_put(buf *response, error_code code, const char *words)
{
    buf error;
    buf_init(&error, 256);
    wire_put_number(&error, 1, (uint64_t)code);
    wire_put_bytes(&error, 2, bytes_str(words));
    wire_put_bytes(response, TELL_ERROR, buf_bytes(&error));
    buf_free(&error);
}

/* The question is a oneof: its last field counts. */
static uint32_t question_of(bytes request, bytes *data)
{
    uint32_t asked = 0;
    reader r = reader_of(request);
    wire_field f;
    while (wire_next(&r, &f)) {
        if (f.number < ASK_FILE || f.number > ASK_SERVICES || !f.delimited) continue;
        asked = f.number;
        *data = f.data;
    }
    return r.bad ? 0 : asked;
}

static void answer_put(buf *response, const rpc_builtin *b, const file_list *files, bytes request)
{
    bytes data = bytes_of(NULL, 0);
    buf part;
    buf_init(&part, RESPONSE_MAX_BYTES);
    level what = LEVEL_LEAF;
    size_t file = files->count;
    uint32_t asked = question_of(request, &data);
    switch (asked) {
    case ASK_SERVICES:
        services_put(&part, b);
        wire_put_bytes(response, TELL_SERVICES, buf_bytes(&part));
        break;
    case ASK_FILE:
    case ASK_SYMBOL:
        file = asked == ASK_FILE ? file_by_name(files, data) : file_by_symbol(files, data, &what);
        if (file == files->count) {
            error_put(response, E_NOT_FOUND, asked == ASK_FILE ? "unknown file" : "unknown symbol");
            break;
        }
        files_put(&part, files, file);
        wire_put_bytes(response, TELL_FILES, buf_bytes(&part));
        break;
    case ASK_EXTENSION_NUMBERS:     /* proto3: there are no extensions, but the type may exist */
        file = file_by_symbol(files, data, &what);
        if (file == files->count || what != LEVEL_MESSAGE) {
            error_put(response, E_NOT_FOUND, "unknown type");
            break;
        }
        wire_put_bytes(&part, 1, data);
        wire_put_bytes(response, TELL_EXTENSION_NUMBERS, buf_bytes(&part));
        break;
    case ASK_EXTENSION:
        error_put(response, E_NOT_FOUND, "unknown extension");
        break;
    default:
        error_put(response, E_INVALID, "a request asks for a file, a symbol or the services");
    }
    buf_free(&part);
}

result reflection_info(void *ctx, rpc_call *call)
{
    const rpc_builtin *b = ctx;
    file_list files;
    files_load(&files, b->descriptor_set);
    buf in, out;
    buf_init(&in, REQUEST_MAX_BYTES);
    buf_init(&out, RESPONSE_MAX_BYTES + 2 * REQUEST_MAX_BYTES);
    result r = OK;
    for (;;) {
        bool end;
        TRY_TO(r, rpc_call_receive(call, &in, &end), out);
        if (end) break;
        buf_clear(&out);
        wire_put_bytes(&out, TELL_HOST, wire_find(buf_bytes(&in), 1));
        wire_put_bytes(&out, TELL_REQUEST, buf_bytes(&in));
        answer_put(&out, b, &files, buf_bytes(&in));
        TRY_TO(r, buf_check(&out), out);
        TRY_TO(r, rpc_call_send(call, buf_bytes(&out)), out);
    }
out:
    buf_free(&in);
    buf_free(&out);
    return r;
}
