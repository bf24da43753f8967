#include "rpc_core.h"
#include "rpc_sanitizers.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/compression.h>
#include <grpc/support/log.h>
#include <string.h>

enum { METADATA_MAX_BYTES = 16 << 10, KEEPALIVE_ANSWER_MS = 20000 };

/* gRPC's own messages may hold addresses and names: only the place is kept. */
static void log_quiet(gpr_log_func_args *args)
{
    const char *slash = strrchr(args->file, '/');
    log_event(LOG_DEBUG, "grpc", LOG_TEXT("file", slash ? slash + 1 : args->file),
              LOG_NUMBER("line", args->line));
}

void rpc_signals_block(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

void rpc_signals_restore(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

void rpc_core_init(void)
{
    gpr_set_log_function(log_quiet);
    grpc_init();
}

void rpc_arg_number(rpc_arg_list *a, const char *key, uint32_t value)
{
    ASSERT(a->count < RPC_ARGS_MAX);
    int number = value > INT32_MAX ? INT32_MAX : (int)value;
    a->list[a->count++] = (grpc_arg){GRPC_ARG_INTEGER, (char *)key, {.integer = number}};
}

void rpc_args_common(rpc_arg_list *a, uint32_t message_max_bytes)
{
    rpc_arg_number(a, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, message_max_bytes);
    rpc_arg_number(a, GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX_BYTES);
    rpc_arg_number(a, GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM, GRPC_COMPRESS_NONE);
    rpc_arg_number(a, GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1u << GRPC_COMPRESS_NONE);
    rpc_arg_number(a, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_ANSWER_MS);
    rpc_arg_number(a, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    rpc_arg_number(a, GRPC_ARG_ENABLE_CHANNELZ, 0);
    rpc_arg_number(a, GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0);
}

grpc_byte_buffer *rpc_message_make(bytes message)
{
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)message.data, message.size);
    grpc_byte_buffer *out = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return out;
}

result rpc_message_take(grpc_byte_buffer *message, buf *out)
{
    grpc_byte_buffer_reader r;
    if (grpc_byte_buffer_reader_init(&r, message)) {
        grpc_slice slice;
        while (grpc_byte_buffer_reader_next(&r, &slice)) {
            buf_append(out, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
            /* It is a part of the connection's read buffer, which gRPC keeps until it is full. */
            mem_wipe(GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
            grpc_slice_unref(slice);
        }
        grpc_byte_buffer_reader_destroy(&r);
    }
    grpc_byte_buffer_destroy(message);
    return buf_check(out);
}
