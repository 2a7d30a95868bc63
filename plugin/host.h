/* A program around the plugin without libsasl2, which can fail where libsasl2 does not: for the tests and the fuzzer. */
#include <sasl/sasl.h>
#include <sasl/saslplug.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct host {
    sasl_utils_t utils;
    sasl_client_params_t params;
    sasl_out_params_t out;
    const char *user;
    sasl_secret_t *secret;
    int allocations_left; /* before memory has run out; -1: never */
    int callback_result, canon_result;
    int has_no_procedure;
    unsigned long missing; /* the callback that is not there */
    char log[1024], error[1024];
    size_t allocated[8]; /* sizes of what is in use, in the order of allocation */
    void *blocks[8];
    int count, dirty; /* dirty: bytes that were given back with the token in them */
};

static struct host *the_host;

static void *host_malloc(size_t size)
{
    struct host *host = the_host;

    if (host->allocations_left == 0)
        return NULL;
    if (host->allocations_left > 0)
        host->allocations_left--;
    host->blocks[host->count] = malloc(size);
    host->allocated[host->count] = size;
    return host->blocks[host->count++];
}

static void host_free(void *block)
{
    struct host *host = the_host;
    int at = 0;

    while (host->blocks[at] != block)
        at++;
    /* What has zeros is no token, and can be the end of a pointer in any structure. */
    if (host->secret != NULL && host->secret->len >= 8 && memchr(host->secret->data, 0, host->secret->len) == NULL
        && memmem(block, host->allocated[at], host->secret->data, host->secret->len) != NULL)
        host->dirty++;
    host->blocks[at] = NULL;
    free(block);
}

static int host_get_simple(void *context, int id, const char **result, unsigned *length)
{
    (void)id;
    *result = ((struct host *)context)->user;
    if (length != NULL)
        *length = *result == NULL ? 0 : (unsigned)strlen(*result);
    return SASL_OK;
}

static int host_get_secret(sasl_conn_t *connection, void *context, int id, sasl_secret_t **result)
{
    (void)connection;
    (void)id;
    *result = ((struct host *)context)->secret;
    return SASL_OK;
}

static int host_get_callback(sasl_conn_t *connection, unsigned long id, sasl_callback_ft *procedure, void **context)
{
    struct host *host = the_host;

    (void)connection;
    if (id == host->missing)
        return host->callback_result;
    *context = host;
    *procedure = (sasl_callback_ft)(id == SASL_CB_PASS ? (void *)host_get_secret : (void *)host_get_simple);
    if (host->has_no_procedure)
        *procedure = NULL;
    return SASL_OK;
}

static void host_seterror(sasl_conn_t *connection, unsigned flags, const char *format, ...)
{
    va_list arguments;

    (void)connection;
    (void)flags;
    va_start(arguments, format);
    vsnprintf(the_host->error, sizeof the_host->error, format, arguments);
    va_end(arguments);
}

static void host_log(sasl_conn_t *connection, int level, const char *format, ...)
{
    va_list arguments;

    (void)connection;
    (void)level;
    va_start(arguments, format);
    vsnprintf(the_host->log, sizeof the_host->log, format, arguments);
    va_end(arguments);
}

static int host_canon_user(sasl_conn_t *connection, const char *in, unsigned length, unsigned flags,
                           sasl_out_params_t *out)
{
    (void)connection;
    (void)length;
    (void)flags;
    out->authid = out->user = in;
    return the_host->canon_result;
}

static void host_begin(struct host *host, const char *user, const void *token, size_t length)
{
    memset(host, 0, sizeof *host);
    host->utils.malloc = host_malloc;
    host->utils.free = host_free;
    host->utils.getcallback = host_get_callback;
    host->utils.seterror = host_seterror;
    host->utils.log = host_log;
    host->params.utils = &host->utils;
    host->params.canon_user = host_canon_user;
    host->user = user;
    host->allocations_left = -1;
    host->secret = malloc(sizeof *host->secret + length);
    if (host->secret == NULL)
        abort();
    host->secret->len = length;
    memcpy(host->secret->data, token, length);
    the_host = host;
}

static void host_end(struct host *host)
{
    free(host->secret);
}
