/* Every path of the plugin: through libsasl2 with callbacks as Postfix has them, and with a host that fails as told. */
#include "host.h"

#include <dlfcn.h>
#include <sasl/saslutil.h>

#define MOST_TOKEN_BYTES 9000
#define CHECK(claim) check((claim) != 0, #claim, __LINE__)

static int failures;
static char logged[1024];

static void check(int is_right, const char *claim, int line)
{
    if (!is_right) {
        printf("test.c:%d: not so: %s\n", line, claim);
        failures++;
    }
}

/* What xsasl_cyrus_client.c has: two simple callbacks, one for a secret, and the log. */
struct login {
    const char *user;
    sasl_secret_t *secret;
};

static int give_name(void *context, int id, const char **result, unsigned *length)
{
    (void)id;
    *result = ((struct login *)context)->user;
    if (length != NULL)
        *length = (unsigned)strlen(*result);
    return SASL_OK;
}

static int give_secret(sasl_conn_t *connection, void *context, int id, sasl_secret_t **result)
{
    (void)id;
    *result = ((struct login *)context)->secret;
    return connection != NULL ? SASL_OK : SASL_BADPARAM;
}

static int keep_log(void *context, int level, const char *text)
{
    (void)context;
    if (level <= SASL_LOG_FAIL)
        snprintf(logged, sizeof logged, "%s", text);
    return SASL_OK;
}

static int give_path(void *context, char **path)
{
    *path = context;
    return SASL_OK;
}

struct session {
    struct login login;
    sasl_callback_t callbacks[5];
    sasl_conn_t *connection;
    const char *mechanism, *out;
    unsigned length;
};

static void open_session(struct session *session, const char *user, const char *token, unsigned flags)
{
    sasl_security_properties_t properties = {.security_flags = flags};
    size_t length = strlen(token);

    memset(session, 0, sizeof *session);
    session->login.user = user;
    session->login.secret = malloc(sizeof *session->login.secret + length + 1);
    session->login.secret->len = length;
    memcpy(session->login.secret->data, token, length + 1);
    session->callbacks[0] = (sasl_callback_t){SASL_CB_USER, (sasl_callback_ft)(void *)give_name, &session->login};
    session->callbacks[1] = (sasl_callback_t){SASL_CB_AUTHNAME, (sasl_callback_ft)(void *)give_name, &session->login};
    session->callbacks[2] = (sasl_callback_t){SASL_CB_PASS, (sasl_callback_ft)(void *)give_secret, &session->login};
    session->callbacks[3] = (sasl_callback_t){SASL_CB_LOG, (sasl_callback_ft)(void *)keep_log, NULL};
    session->callbacks[4] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
    CHECK(sasl_client_new("smtp", "mail.example.test", NULL, NULL, session->callbacks, 0, &session->connection)
          == SASL_OK);
    CHECK(sasl_setprop(session->connection, SASL_SEC_PROPS, &properties) == SASL_OK);
    logged[0] = '\0';
}

static int start(struct session *session, const char *mechanisms)
{
    return sasl_client_start(session->connection, mechanisms, NULL, &session->out, &session->length,
                             &session->mechanism);
}

static int answer(struct session *session, const char *challenge)
{
    return sasl_client_step(session->connection, challenge, (unsigned)strlen(challenge), NULL, &session->out,
                            &session->length);
}

static void close_session(struct session *session)
{
    sasl_dispose(&session->connection);
    free(session->login.secret);
}

static int says(const struct session *session, const char *text)
{
    return session->length == strlen(text) && (text[0] == '\0' || memcmp(session->out, text, session->length) == 0);
}

static void test_messages(void)
{
    struct session session;

    open_session(&session, "user@example.com", "ya29.a-b_c~d+e/f==", SASL_SEC_NOANONYMOUS);
    CHECK(start(&session, "PLAIN XOAUTH2") == SASL_CONTINUE);
    CHECK(strcmp(session.mechanism, "XOAUTH2") == 0);
    CHECK(says(&session, "user=user@example.com\1auth=Bearer ya29.a-b_c~d+e/f==\1\1"));
    CHECK(answer(&session, "{\"status\":\"400\",\"schemes\":\"Bearer\",\"scope\":\"https://mail.google.com/\"}")
          == SASL_CONTINUE);
    CHECK(says(&session, ""));
    CHECK(strstr(logged, "XOAUTH2: the server refuses the access token: status 400, scope https://mail.google.com/"));
    CHECK(answer(&session, "more") == SASL_BADPROT);
    close_session(&session);

    open_session(&session, "a=b,c@example.com", "ya29.x", SASL_SEC_NOANONYMOUS);
    CHECK(start(&session, "OAUTHBEARER") == SASL_CONTINUE);
    CHECK(says(&session, "n,a=a=3Db=2Cc@example.com,\1auth=Bearer ya29.x\1\1"));
    CHECK(answer(&session, "{ \"scope\" : \"smtp\", \"status\" : \"invalid_token\" }") == SASL_CONTINUE);
    CHECK(says(&session, "\1"));
    CHECK(strstr(logged, "OAUTHBEARER: the server refuses the access token: status invalid_token, scope smtp"));
    close_session(&session);

    /* What is UTF-8 in a name stays, and XOAUTH2 escapes nothing. */
    open_session(&session, "j\xc3\xb6rg=,@example.com", "t", 0);
    CHECK(start(&session, "XOAUTH2") == SASL_CONTINUE);
    CHECK(says(&session, "user=j\xc3\xb6rg=,@example.com\1auth=Bearer t\1\1"));
    close_session(&session);
}

/* RFC 4954 section 4: no initial response where the AUTH command would be longer than a command may be. */
static void test_long_tokens(void)
{
    static char token[MOST_TOKEN_BYTES + 1];
    static const size_t lengths[] = {329, 330, 331, 332, 333, 334, 335, 4096, 8192, MOST_TOKEN_BYTES};
    struct session session;
    char encoded[MOST_TOKEN_BYTES * 2];
    unsigned length;
    size_t at;

    for (at = 0; at < sizeof lengths / sizeof lengths[0]; at++) {
        memset(token, 'A', lengths[at]);
        token[lengths[at]] = '\0';
        open_session(&session, "user@example.com", token, 0);
        CHECK(start(&session, "XOAUTH2") == SASL_CONTINUE);
        if (session.length > 0) {
            CHECK(sasl_encode64(session.out, session.length, encoded, sizeof encoded, &length) == SASL_OK);
            CHECK(length + strlen("AUTH XOAUTH2 \r\n") <= 512);
        } else {
            CHECK(answer(&session, "") == SASL_CONTINUE);
            CHECK(sasl_encode64(session.out, session.length, encoded, sizeof encoded, &length) == SASL_OK);
            CHECK(length + strlen("AUTH XOAUTH2 \r\n") > 512);
        }
        CHECK(session.length == strlen("user=user@example.com\1auth=Bearer \1\1") + lengths[at]);
        CHECK(memmem(session.out, session.length, token, lengths[at]) != NULL);
        close_session(&session);
    }
    /* A server that does not ask, but says something. */
    open_session(&session, "user@example.com", token, 0);
    CHECK(start(&session, "XOAUTH2") == SASL_CONTINUE && session.length == 0);
    CHECK(answer(&session, "VXNlcm5hbWU6") == SASL_BADPROT);
    CHECK(session.length == 0);
    close_session(&session);
}

static void test_refused_logins(void)
{
    static const char *const users[] = {"", "a\1auth=Bearer x", "a\nb", "a\x7f"};
    static const char *const tokens[] = {"", "a\1b", "two words", "a\r\n", "t\xc3\xb6ken", "a\x7f"};
    struct session session;
    size_t at;

    for (at = 0; at < sizeof users / sizeof users[0]; at++) {
        open_session(&session, users[at], "token", 0);
        CHECK(start(&session, "XOAUTH2") == SASL_BADPARAM);
        CHECK(strstr(sasl_errdetail(session.connection), "the user name is empty, or has characters"));
        close_session(&session);
    }
    for (at = 0; at < sizeof tokens / sizeof tokens[0]; at++) {
        open_session(&session, "user@example.com", tokens[at], 0);
        CHECK(start(&session, "OAUTHBEARER") == SASL_BADPARAM);
        CHECK(strstr(sasl_errdetail(session.connection), "the access token is empty, or has characters"));
        close_session(&session);
    }
}

/* What keeps a token from a session in the clear (postconf(5) smtp_sasl_security_options). */
static void test_security(void)
{
    struct session session;

    open_session(&session, "user@example.com", "token", SASL_SEC_NOPLAINTEXT | SASL_SEC_NOANONYMOUS);
    CHECK(start(&session, "XOAUTH2 OAUTHBEARER") == SASL_NOMECH);
    close_session(&session);
    open_session(&session, "user@example.com", "token", SASL_SEC_MUTUAL_AUTH);
    CHECK(start(&session, "XOAUTH2 OAUTHBEARER") == SASL_NOMECH);
    close_session(&session);
}

static void test_what_is_logged(void)
{
    static const struct {
        const char *said, *logged;
    } cases[] = {
        {"", "status ?, scope ?"},
        {"\"status\"", "status ?, scope ?"},
        {"\"status\" :", "status ?, scope ?"},
        {"\"status\": 400", "status ?, scope ?"},
        {"\"status\":\"400", "status ?, scope ?"},
        {"\"status\":\"\"", "status ?, scope ?"},
        {"\"status\":\"4\n00\",\"scope\":\"a\"", "status ?, scope a"},
        {"\"status\":\"secret-token-of-a-user\",\"scope\":\"x secret-token-of-a-user y\"", "status ?, scope ?"},
        {"\"status\":\"token-of-a\",\"scope\":\"token\"", "status ?, scope token"},
    };
    char long_word[400];
    struct session session;
    size_t at;

    for (at = 0; at < sizeof cases / sizeof cases[0]; at++) {
        open_session(&session, "user@example.com", "secret-token-of-a-user", 0);
        CHECK(start(&session, "XOAUTH2") == SASL_CONTINUE);
        CHECK(answer(&session, cases[at].said) == SASL_CONTINUE);
        CHECK(strstr(logged, cases[at].logged) != NULL);
        close_session(&session);
    }
    memset(long_word, 'x', sizeof long_word);
    memcpy(long_word, "\"status\":\"", 10);
    long_word[sizeof long_word - 2] = '"';
    long_word[sizeof long_word - 1] = '\0';
    open_session(&session, "user@example.com", "secret-token-of-a-user", 0);
    CHECK(start(&session, "XOAUTH2") == SASL_CONTINUE);
    CHECK(answer(&session, long_word) == SASL_CONTINUE);
    CHECK(strstr(logged, "status ?, scope ?") != NULL);
    close_session(&session);
}

/* A program that has no callback for a password cannot use it, and libsasl2 is told so. */
static void test_programs_without_callbacks(void)
{
    sasl_conn_t *connection;
    const char *out, *mechanism;
    unsigned length;

    CHECK(sasl_client_new("smtp", "mail.example.test", NULL, NULL, NULL, 0, &connection) == SASL_OK);
    CHECK(sasl_client_start(connection, "XOAUTH2", NULL, &out, &length, &mechanism) == SASL_NOMECH);
    sasl_dispose(&connection);
}

static int begin(struct host *host, const sasl_client_plug_t *plugin, void **context)
{
    const char *out;
    unsigned length;
    int result = plugin->mech_new(plugin->glob_context, &host->params, context);

    return result != SASL_OK ? result
                             : plugin->mech_step(*context, &host->params, NULL, 0, NULL, &out, &length, &host->out);
}

static void test_what_fails_around_it(void *library)
{
    static char long_token[70000];
    sasl_client_plug_init_t *init = (sasl_client_plug_init_t *)dlsym(library, "sasl_client_plug_init");
    sasl_client_plug_t *plugins;
    const char *out;
    unsigned length;
    struct host host;
    void *context;
    int version, count, left;

    host_begin(&host, "user", "secret-token", 12);
    CHECK(init(&host.utils, SASL_CLIENT_PLUG_VERSION - 1, &version, &plugins, &count) == SASL_BADVERS);
    CHECK(init(&host.utils, SASL_CLIENT_PLUG_VERSION, &version, &plugins, &count) == SASL_OK);
    CHECK(count == 2 && version == SASL_CLIENT_PLUG_VERSION);
    CHECK((plugins[0].security_flags & SASL_SEC_NOPLAINTEXT) == 0 && plugins[0].max_ssf == 0);
    plugins[0].mech_dispose(NULL, &host.utils);

    /* Nothing that was allocated holds the token when it is given back: before, after and in the middle. */
    CHECK(begin(&host, plugins, &context) == SASL_CONTINUE);
    plugins[0].mech_dispose(context, &host.utils);
    CHECK(host.count == 2 && host.dirty == 0);
    CHECK(begin(&host, plugins, &context) == SASL_CONTINUE);
    CHECK(plugins[0].mech_step(context, &host.params, NULL, 0, NULL, &out, &length, &host.out) == SASL_CONTINUE);
    CHECK(host.blocks[3] == NULL && host.dirty == 0);
    plugins[0].mech_dispose(context, &host.utils);
    CHECK(host.blocks[2] == NULL && host.dirty == 0);
    host_end(&host);

    for (left = 0; left < 2; left++) {
        host_begin(&host, "user", "secret-token", 12);
        host.allocations_left = left;
        CHECK(begin(&host, plugins, &context) == SASL_NOMEM);
        if (left > 0)
            plugins[0].mech_dispose(context, &host.utils);
        host_end(&host);
    }

    host_begin(&host, "user", "secret-token", 12);
    host.canon_result = SASL_BUFOVER;
    CHECK(begin(&host, plugins, &context) == SASL_BUFOVER);
    plugins[0].mech_dispose(context, &host.utils);
    host_end(&host);

    host_begin(&host, NULL, "secret-token", 12);
    CHECK(begin(&host, plugins, &context) == SASL_BADPARAM);
    plugins[0].mech_dispose(context, &host.utils);
    host_end(&host);

    host_begin(&host, "user", "", 0);
    free(host.secret);
    host.secret = NULL;
    CHECK(begin(&host, plugins, &context) == SASL_BADPARAM);
    plugins[0].mech_dispose(context, &host.utils);
    host_end(&host);

    memset(long_token, 'A', sizeof long_token);
    host_begin(&host, "user", long_token, sizeof long_token);
    CHECK(begin(&host, plugins, &context) == SASL_BADPARAM);
    CHECK(strstr(host.error, "more than 65536 bytes") != NULL);
    plugins[0].mech_dispose(context, &host.utils);
    host_end(&host);

    for (left = 0; left < 5; left++) {
        host_begin(&host, "user", "secret-token", 12);
        host.missing = left % 2 ? SASL_CB_AUTHNAME : SASL_CB_PASS;
        host.callback_result = left < 2 ? SASL_INTERACT : SASL_NOTINIT;
        if (left == 4) {
            host.missing = 0;
            host.has_no_procedure = 1;
        }
        CHECK(begin(&host, plugins, &context) == (left < 2 || left == 4 ? SASL_FAIL : SASL_NOTINIT));
        CHECK(strstr(host.error, "there is no user name, or no access token") != NULL);
        plugins[0].mech_dispose(context, &host.utils);
        host_end(&host);
    }
}

int main(int count, char **arguments)
{
    char *directory = count > 1 ? arguments[1] : ".";
    const sasl_callback_t callbacks[] = {{SASL_CB_GETPATH, (sasl_callback_ft)(void *)give_path, directory},
                                         {SASL_CB_LOG, (sasl_callback_ft)(void *)keep_log, NULL},
                                         {SASL_CB_LIST_END, NULL, NULL}};
    char path[512];
    void *library;

    snprintf(path, sizeof path, "%s/liboauth2.so", directory);
    library = dlopen(path, RTLD_NOW);
    if (library == NULL || sasl_client_init(callbacks) != SASL_OK) {
        printf("test.c: there is no plugin: %s\n", dlerror());
        return 1;
    }
    test_messages();
    test_long_tokens();
    test_refused_logins();
    test_security();
    test_what_is_logged();
    test_programs_without_callbacks();
    test_what_fails_around_it(library);
    sasl_done();
    dlclose(library);
    if (failures == 0)
        printf("test.c: all is so\n");
    return failures != 0;
}
