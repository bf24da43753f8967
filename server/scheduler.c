/* Two queues (prefill, decode) of jobs that live on their callers' stacks, and one worker. */
#include "scheduler.h"

#include <pthread.h>
#include <string.h>

typedef struct job {
    struct job *next;
    model_seq *seq;
    const uint32_t *tokens;
    size_t count, done;
    float *logits;
    result (*alive)(void *ctx);
    void *alive_ctx;
    error_code code;           /* a result's message belongs to the worker's thread: copied */
    char message[256];
    bool finished;
    pthread_cond_t wake;
} job;

typedef struct { job *first, *last; uint32_t count; } queue;

struct scheduler {
    model *engine;
    uint32_t batch_max, vocab_size, chunk_tokens;
    pthread_t thread;
    pthread_mutex_t lock;      /* guards all below */
    pthread_cond_t work;
    queue prefills, decodes;
    uint64_t decode_steps;
    uint32_t running;
    bool stopping;
    float *logits;             /* (batch_max, vocab_size), the worker's own */
};

static void queue_push(queue *q, job *j)
{
    j->next = NULL;
    if (q->last) q->last->next = j; else q->first = j;
    q->last = j;
    q->count++;
}

static job *queue_pop(queue *q)
{
    job *j = q->first;
    if (j == NULL) return NULL;
    q->first = j->next;
    if (q->first == NULL) q->last = NULL;
    q->count--;
    return j;
}

/* With the lock held. */
static void job_finish(job *j, result r)
{
    j->code = r.code;
    strncpy(j->message, r.message, sizeof j->message - 1);
    j->finished = true;
    pthread_cond_signal(&j->wake);
}

/* Decodes up to batch_max waiting sequences. Called and left with the lock held. */
static void step_decodes(scheduler *s)
{
    job *jobs[64];
    model_seq *seqs[64];
    uint32_t tokens[64];
    uint32_t n = 0;
    while (n < s->batch_max && s->decodes.first) {
        job *j = queue_pop(&s->decodes);
        jobs[n] = j;
        seqs[n] = j->seq;
        tokens[n++] = j->tokens[0];
    }
    if (n == 0) return;
    s->running += n;
    pthread_mutex_unlock(&s->lock);
    result r = model_decode(s->engine, seqs, tokens, n, s->logits);
    for (uint32_t i = 0; i < n && is_ok(r); i++)
        memcpy(jobs[i]->logits, s->logits + (size_t)i * s->vocab_size, s->vocab_size * sizeof(float));
    pthread_mutex_lock(&s->lock);
    s->running -= n;
    s->decode_steps += n;
    for (uint32_t i = 0; i < n; i++) job_finish(jobs[i], r);
}

/* Reads one chunk of the first waiting prefill, which then goes to the end of the queue. */
static void step_prefill(scheduler *s)
{
    job *j = queue_pop(&s->prefills);
    if (j == NULL) return;
    s->running++;
    pthread_mutex_unlock(&s->lock);
    size_t n = j->count - j->done;
    if (n > s->chunk_tokens) n = s->chunk_tokens;
    bool last = j->done + n == j->count;
    result r = j->alive ? j->alive(j->alive_ctx) : OK;
    if (is_ok(r))
        r = model_prefill(j->seq, j->tokens + j->done, n, last ? j->logits : NULL, NULL, NULL);
    pthread_mutex_lock(&s->lock);
    s->running--;
    j->done += n;
    if (last || !is_ok(r)) job_finish(j, r);
    else queue_push(&s->prefills, j);
}

static void *worker(void *arg)
{
    scheduler *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->stopping && s->decodes.first == NULL && s->prefills.first == NULL)
            pthread_cond_wait(&s->work, &s->lock);
        if (s->stopping) break;
        step_decodes(s);
        step_prefill(s);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

result scheduler_open(scheduler **out, model *m, uint32_t batch_max)
{
    ASSERT(batch_max >= 1 && batch_max <= 64);
    *out = NULL;
    scheduler *s = mem_alloc(sizeof *s);
    s->engine = m;
    s->batch_max = batch_max;
    s->vocab_size = model_describe(m)->vocab_size;
    s->chunk_tokens = model_describe(m)->chunk_tokens;
    result r = model_logits_open(&s->logits, m, (size_t)batch_max * s->vocab_size);
    if (!is_ok(r)) {
        mem_free(s);
        return r;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    if (pthread_create(&s->thread, NULL, worker, s) != 0) {
        model_logits_close(m, &s->logits, (size_t)batch_max * s->vocab_size);
        mem_free(s);
        return fail(E_UNAVAILABLE, "cannot start the engine's thread");
    }
    *out = s;
    return OK;
}

void scheduler_close(scheduler **s_)
{
    scheduler *s = *s_;
    if (s == NULL) return;
    pthread_mutex_lock(&s->lock);
    ASSERT(s->prefills.first == NULL && s->decodes.first == NULL);
    s->stopping = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    model_logits_close(s->engine, &s->logits, (size_t)s->batch_max * s->vocab_size);
    mem_free(s);
    *s_ = NULL;
}

static result job_run(scheduler *s, queue *q, job *j)
{
    pthread_cond_init(&j->wake, NULL);
    pthread_mutex_lock(&s->lock);
    queue_push(q, j);
    pthread_cond_signal(&s->work);
    while (!j->finished) pthread_cond_wait(&j->wake, &s->lock);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&j->wake);
    return j->code == E_OK ? OK : fail(j->code, "%s", j->message);
}

result scheduler_prefill(scheduler *s, model_seq *seq, const uint32_t *tokens, size_t count,
                         float *logits, result (*alive)(void *ctx), void *alive_ctx)
{
    ASSERT(count > 0);
    job j = {.seq = seq, .tokens = tokens, .count = count, .logits = logits,
             .alive = alive, .alive_ctx = alive_ctx};
    return job_run(s, &s->prefills, &j);
}

result scheduler_decode(scheduler *s, model_seq *seq, uint32_t token, float *logits)
{
    job j = {.seq = seq, .tokens = &token, .count = 1, .logits = logits};
    return job_run(s, &s->decodes, &j);
}

void scheduler_figures_now(scheduler *s, scheduler_figures *out)
{
    pthread_mutex_lock(&s->lock);
    out->decode_steps = s->decode_steps;
    out->sequences_active = s->running + s->prefills.count + s->decodes.count;
    pthread_mutex_unlock(&s->lock);
}
