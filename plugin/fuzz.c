/*
 * What the plugin makes of any user, token and challenges: never more than the two documents allow, and no token in a log.
 *
 * libFuzzer's entry, for longer runs by hand:
 *   clang -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -o fuzz fuzz.c && ./fuzz -dict=fuzz.dict -max_len=16000
 * With -DALONE a program for gcc that makes its inputs itself: arguments are a count and a first seed.
 */
#include "oauth2.c"

#include "host.h"

static void check(int is_right)
{
    if (!is_right)
        abort();
}

/* A part of the input that begins with its length; its end where there is less. */
static const uint8_t *take(const uint8_t **data, size_t *left, size_t *length)
{
    const uint8_t *part;
    size_t wanted = 0;

    if (*left >= 2) {
        wanted = (size_t)((*data)[0] | (*data)[1] << 8) % 0x3000;
        *data += 2;
        *left -= 2;
    }
    part = *data;
    *length = wanted < *left ? wanted : *left;
    *data += *length;
    *left -= *length;
    return part;
}

static void check_message(const struct mechanism *mechanism, const struct host *host, const char *out, size_t length)
{
    size_t ones = 0, at, before = strlen(mechanism->before_user);
    size_t tail = strlen(mechanism->after_user) + host->secret->len + 2;

    for (at = 0; at < length; at++) {
        check(out[at] != '\0');
        ones += out[at] == '\1';
    }
    check(ones == 3 && length <= MOST_BYTES && length > before + tail);
    check(memcmp(out, mechanism->before_user, before) == 0);
    check(memcmp(out + length - tail, mechanism->after_user, strlen(mechanism->after_user)) == 0);
    check(memcmp(out + length - 2 - host->secret->len, host->secret->data, host->secret->len) == 0);
    if (mechanism == &oauthbearer)
        check(memchr(out + before, ',', length - before - tail) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t left);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t left)
{
    struct host host;
    const sasl_client_plug_t *plugin = &plugins[left > 0 && data[0] & 1];
    int has_initial = left > 0 && data[0] & 2;
    size_t length, step;
    const uint8_t *part;
    const char *out;
    unsigned out_length;
    char *user, *challenge;
    void *context;
    int result = SASL_CONTINUE;

    if (left > 0)
        data++, left--;
    part = take(&data, &left, &length);
    user = calloc(1, length + 1);
    check(user != NULL);
    memcpy(user, part, length);
    part = take(&data, &left, &length);
    host_begin(&host, user, part, length);
    check(plugin->mech_new(plugin->glob_context, &host.params, &context) == SASL_OK);
    for (step = 0; step < 4 && result == SASL_CONTINUE; step++) {
        part = take(&data, &left, &length);
        challenge = malloc(length);
        memcpy(challenge, part, length);
        result = plugin->mech_step(context, &host.params, step == 0 && has_initial ? NULL : challenge,
                                   step == 0 ? 0 : (unsigned)length, NULL, &out, &out_length, &host.out);
        check(result == SASL_CONTINUE || out_length == 0);
        if (result == SASL_CONTINUE && out_length > 1)
            check_message(plugin->glob_context, &host, out, out_length);
        free(challenge);
    }
    if (host.secret->len > 0) {
        check(memmem(host.log, strlen(host.log), host.secret->data, host.secret->len) == NULL || host.secret->len < 8);
        check(host.error[0] == '\0' || host.secret->len < 8
              || memmem(host.error, strlen(host.error), host.secret->data, host.secret->len) == NULL);
    }
    for (out = host.log; *out != '\0'; out++)
        check(*out >= ' ' && *out <= '~');
    plugin->mech_dispose(context, &host.utils);
    check(host.dirty == 0);
    free(user);
    host_end(&host);
    return 0;
}

#ifdef ALONE
static uint64_t state;

static unsigned next(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % below;
}

int main(int count, char **arguments)
{
    static const char *const words[] = {"{\"status\":\"", "400", "\"", "\"scope\": \"", "token-token", "user@example.com",
                                        "}", ",", "=", "\1", "https://mail.google.com/", "\n", " : ", "\\", "\xc3\xa4"};
    static uint8_t data[0x4000];
    unsigned long rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 1, round;

    state = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
    for (round = 0; round < rounds; round++) {
        size_t length = 1, part;

        data[0] = (uint8_t)next(256);
        for (part = 0; part < 5; part++) {
            size_t at = length, pieces = next(8);

            length += 2;
            while (pieces-- > 0) {
                if (next(4) > 0) {
                    const char *word = words[next(sizeof words / sizeof words[0])];
                    memcpy(data + length, word, strlen(word));
                    length += strlen(word);
                } else if (next(16) == 0) {
                    size_t run = next(2000);
                    memset(data + length, 'A', run);
                    length += run;
                } else
                    data[length++] = (uint8_t)next(256);
            }
            if (length > sizeof data / 4)
                length = at + 2;
            data[at] = (uint8_t)((length - at - 2) & 255);
            data[at + 1] = (uint8_t)((length - at - 2) >> 8);
        }
        LLVMFuzzerTestOneInput(data, length);
    }
    printf("%lu inputs\n", rounds);
    return 0;
}
#endif
