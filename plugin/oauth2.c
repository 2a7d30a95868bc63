/*
 * XOAUTH2 and OAUTHBEARER (RFC 7628) for Cyrus SASL clients: the access token is the password, and nothing else is done.
 *
 * Postfix supplies user name and password by the callbacks SASL_CB_AUTHNAME and SASL_CB_PASS (xsasl_cyrus_client.c).
 * No state outlives a connection, nothing is written but one line of log, and the token is wiped before its memory is
 * given back.
 */
#include <sasl/sasl.h>
#include <sasl/saslplug.h>
#include <string.h>

/* Of a whole message: servers need not take more than 9216 (12288 in base64, RFC 4954 section 4), and they say so. */
#define MOST_BYTES 65536
/* Of a command line with its end (RFC 5321 section 4.5.3.1.4), which AUTH must keep to (RFC 4954 section 4). */
#define MOST_LINE_BYTES 512
/* Of what is quoted from a server. */
#define MOST_WORD_BYTES 128
/* Shorter words, such as "400", are in many tokens. */
#define LEAST_SECRET_BYTES 8

enum step { BEGINNING, HOLDING, SENT, REFUSED };

struct mechanism {
    const char *name, *before_user, *after_user, *answer;
};

/* https://developers.google.com/workspace/gmail/imap/xoauth2-protocol; a refusal is answered with an empty line. */
static const struct mechanism xoauth2 = {"XOAUTH2", "user=", "\1auth=Bearer ", ""};
/* RFC 7628 section 3.1, without host and port, which a bearer token does not need; section 3.2.3 for the answer. */
static const struct mechanism oauthbearer = {"OAUTHBEARER", "n,a=", ",\1auth=Bearer ", "\1"};

struct exchange {
    const struct mechanism *mechanism;
    enum step step;
    char *message;
    size_t length, token_at, token_length;
};

static void forget(struct exchange *exchange, const sasl_utils_t *utils)
{
    if (exchange->message != NULL) {
        explicit_bzero(exchange->message, exchange->length);
        utils->free(exchange->message);
        exchange->message = NULL;
    }
}

/* A callback of the program's; this plugin asks no person, so that one that would have to be asked is an error. */
static int find_callback(const sasl_utils_t *utils, unsigned long id, sasl_callback_ft *callback, void **context)
{
    int result = utils->getcallback(utils->conn, id, callback, context);

    if (result == SASL_INTERACT || (result == SASL_OK && *callback == NULL))
        return SASL_FAIL;
    return result;
}

static int find_user(const sasl_utils_t *utils, const char **user)
{
    sasl_callback_ft callback = NULL;
    void *context = NULL;
    int result = find_callback(utils, SASL_CB_AUTHNAME, &callback, &context);

    if (result == SASL_OK)
        result = ((sasl_getsimple_t *)(void *)callback)(context, SASL_CB_AUTHNAME, user, NULL);
    return result == SASL_OK && *user == NULL ? SASL_BADPARAM : result;
}

static int find_token(const sasl_utils_t *utils, sasl_secret_t **token)
{
    sasl_callback_ft callback = NULL;
    void *context = NULL;
    int result = find_callback(utils, SASL_CB_PASS, &callback, &context);

    if (result == SASL_OK)
        result = ((sasl_getsecret_t *)(void *)callback)(utils->conn, context, SASL_CB_PASS, token);
    return result == SASL_OK && *token == NULL ? SASL_BADPARAM : result;
}

/* Whether there is a name, and no byte in it could end it: 1 separates the parts of a message. */
static int is_name(const char *text)
{
    const char *at;

    for (at = text; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == '\x7f')
            return 0;
    return at != text;
}

/* Whether it is made of what a token may have (RFC 6749 appendix A.12), without the blank, which no header could. */
static int is_token(const unsigned char *text, size_t length)
{
    size_t at;

    for (at = 0; at < length; at++)
        if (text[at] <= ' ' || text[at] > '~')
            return 0;
    return length > 0;
}

static char *append(char *end, const void *data, size_t length)
{
    memcpy(end, data, length);
    return end + length;
}

/* Put user and token into the message; the name's "," and "=" written as RFC 5801 section 4 has it for OAUTHBEARER. */
static int make_message(struct exchange *exchange, const sasl_utils_t *utils, const char *user, const sasl_secret_t *token)
{
    const struct mechanism *mechanism = exchange->mechanism;
    int is_escaped = mechanism == &oauthbearer;
    size_t length = strlen(mechanism->before_user) + strlen(mechanism->after_user) + token->len + strlen("\1\1");
    const char *at;
    char *end;

    for (at = user; *at != '\0'; at++)
        length += is_escaped && (*at == ',' || *at == '=') ? 3 : 1;
    if (length > MOST_BYTES) {
        utils->seterror(utils->conn, 0, "%s: the access token has more than %d bytes", mechanism->name, MOST_BYTES);
        return SASL_BADPARAM;
    }
    exchange->message = utils->malloc(length);
    if (exchange->message == NULL)
        return SASL_NOMEM;
    exchange->length = length;
    exchange->token_length = token->len;
    end = append(exchange->message, mechanism->before_user, strlen(mechanism->before_user));
    for (at = user; *at != '\0'; at++)
        if (is_escaped && (*at == ',' || *at == '='))
            end = append(end, *at == ',' ? "=2C" : "=3D", 3);
        else
            *end++ = *at;
    end = append(end, mechanism->after_user, strlen(mechanism->after_user));
    exchange->token_at = (size_t)(end - exchange->message);
    end = append(end, token->data, token->len);
    append(end, "\1\1", 2);
    return SASL_OK;
}

/* Ask the program who it is, and make the message. */
static int begin(struct exchange *exchange, sasl_client_params_t *params, sasl_out_params_t *oparams)
{
    const sasl_utils_t *utils = params->utils;
    const char *user = NULL;
    sasl_secret_t *token = NULL;
    int result = find_user(utils, &user);

    if (result == SASL_OK)
        result = find_token(utils, &token);
    if (result != SASL_OK) {
        utils->seterror(utils->conn, 0, "%s: there is no user name, or no access token", exchange->mechanism->name);
        return result;
    }
    if (!is_name(user) || !is_token(token->data, token->len)) {
        utils->seterror(utils->conn, 0, "%s: the %s is empty, or has characters that none can have",
                        exchange->mechanism->name, is_name(user) ? "access token" : "user name");
        return SASL_BADPARAM;
    }
    result = params->canon_user(utils->conn, user, 0, SASL_CU_AUTHID | SASL_CU_AUTHZID, oparams);
    return result == SASL_OK ? make_message(exchange, utils, oparams->authid, token) : result;
}

static int fits_into_line(const struct exchange *exchange)
{
    size_t encoded = (exchange->length + 2) / 3 * 4;

    return strlen("AUTH  \r\n") + strlen(exchange->mechanism->name) + encoded <= MOST_LINE_BYTES;
}

/* Whether a word has the token in it, or is a part of it that is not there by chance. */
static int is_secret(const struct exchange *exchange, const char *word, size_t length)
{
    const char *token = exchange->message + exchange->token_at;

    return memmem(word, length, token, exchange->token_length) != NULL
        || (length >= LEAST_SECRET_BYTES && memmem(token, exchange->token_length, word, length) != NULL);
}

/* Copy a value of a JSON object; "?" where it is not there, is no plain word, or is secret. */
static void read_value(const struct exchange *exchange, const char *json, size_t length, const char *key, char *value)
{
    const char *at = memmem(json, length, key, strlen(key)), *end = json + length;
    size_t count = 0;

    if (at != NULL) {
        for (at += strlen(key); at < end && (*at == ' ' || *at == ':'); at++)
            continue;
        if (at < end && *at == '"')
            for (at++; at < end && *at >= ' ' && *at <= '~' && *at != '"' && count < MOST_WORD_BYTES - 1; at++)
                value[count++] = *at;
    }
    if (count == 0 || at == end || *at != '"' || is_secret(exchange, value, count)) {
        value[0] = '?';
        count = 1;
    }
    value[count] = '\0';
}

/* Say why the server refuses (RFC 7628 section 3.2.2), in the words of its JSON that are for people, and nothing else. */
static void tell(const struct exchange *exchange, const sasl_utils_t *utils, const char *json, size_t length)
{
    char status[MOST_WORD_BYTES], scope[MOST_WORD_BYTES];

    read_value(exchange, json, length, "\"status\"", status);
    read_value(exchange, json, length, "\"scope\"", scope);
    utils->log(utils->conn, SASL_LOG_FAIL, "%s: the server refuses the access token: status %s, scope %s",
               exchange->mechanism->name, status, scope);
}

static int start_exchange(void *glob_context, sasl_client_params_t *params, void **conn_context)
{
    struct exchange *exchange = params->utils->malloc(sizeof *exchange);

    if (exchange == NULL)
        return SASL_NOMEM;
    memset(exchange, 0, sizeof *exchange);
    exchange->mechanism = glob_context;
    *conn_context = exchange;
    return SASL_OK;
}

static int take_step(void *conn_context, sasl_client_params_t *params, const char *serverin, unsigned serverinlen,
                     sasl_interact_t **prompt_need, const char **clientout, unsigned *clientoutlen,
                     sasl_out_params_t *oparams)
{
    struct exchange *exchange = conn_context;
    int result;

    (void)prompt_need;
    *clientout = NULL;
    *clientoutlen = 0;
    if (exchange->step == BEGINNING) {
        result = begin(exchange, params, oparams);
        if (result != SASL_OK)
            return result;
        exchange->step = HOLDING;
        /* Too long for the AUTH command: it goes by itself, when the server asks (RFC 4954 section 4). */
        if (serverin == NULL && !fits_into_line(exchange))
            return SASL_CONTINUE;
    }
    if (exchange->step == HOLDING && serverinlen == 0) {
        *clientout = exchange->message;
        *clientoutlen = (unsigned)exchange->length;
        exchange->step = SENT;
        return SASL_CONTINUE;
    }
    if (exchange->step == SENT) {
        tell(exchange, params->utils, serverin == NULL ? "" : serverin, serverin == NULL ? 0 : serverinlen);
        forget(exchange, params->utils);
        *clientout = exchange->mechanism->answer;
        *clientoutlen = (unsigned)strlen(exchange->mechanism->answer);
        exchange->step = REFUSED;
        return SASL_CONTINUE;
    }
    params->utils->seterror(params->utils->conn, 0, "%s: the server says something where nothing is to be said",
                            exchange->mechanism->name);
    return SASL_BADPROT;
}

static void end_exchange(void *conn_context, const sasl_utils_t *utils)
{
    if (conn_context != NULL) {
        forget(conn_context, utils);
        utils->free(conn_context);
    }
}

static const unsigned long prompts[] = {SASL_CB_AUTHNAME, SASL_CB_PASS, SASL_CB_LIST_END};

/*
 * As PLAIN, a token can be read and used by whoever sees it: no SASL_SEC_NOPLAINTEXT, no security layer. Nor may one act
 * for another than oneself (SASL_FEAT_ALLOWS_PROXY).
 */
#define DESCRIBE(name, mechanism)                                                                                     \
    {                                                                                                                 \
        .mech_name = (name), .security_flags = SASL_SEC_NOANONYMOUS | SASL_SEC_PASS_CREDENTIALS,                      \
        .features = SASL_FEAT_WANT_CLIENT_FIRST, .required_prompts = prompts, .glob_context = (void *)(mechanism),    \
        .mech_new = start_exchange, .mech_step = take_step, .mech_dispose = end_exchange                              \
    }

static sasl_client_plug_t plugins[] = {DESCRIBE("XOAUTH2", &xoauth2), DESCRIBE("OAUTHBEARER", &oauthbearer)};

/* What libsasl2 looks for. */
__attribute__((visibility("default"))) sasl_client_plug_init_t sasl_client_plug_init;

int sasl_client_plug_init(const sasl_utils_t *utils, int max_version, int *out_version, sasl_client_plug_t **pluglist,
                          int *plugcount)
{
    (void)utils;
    if (max_version < SASL_CLIENT_PLUG_VERSION)
        return SASL_BADVERS;
    *out_version = SASL_CLIENT_PLUG_VERSION;
    *pluglist = plugins;
    *plugcount = sizeof plugins / sizeof plugins[0];
    return SASL_OK;
}
