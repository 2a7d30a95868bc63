/* The part of libnsl.so.2 that Postfix asks for, without NIS: there is no domain, and no map has an answer.
 *
 * Debian's brings libtirpc and Kerberos into each of Postfix's processes for map types that a container has no use for:
 * 130 KiB of pages that are nobody else's, and eight libraries to link at every start of a daemon.
 */

enum { NO_SUCH_MAP = 4, NO_DOMAIN = 12 }; /* YPERR_MAP, YPERR_NODOM of <rpcsvc/ypclnt.h> */

int yp_get_default_domain(char **domain);
int yp_match(char *domain, char *map, char *key, int key_length, char **value, int *value_length);

int yp_get_default_domain(char **domain)
{
    *domain = 0;
    return NO_DOMAIN;
}

int yp_match(char *domain, char *map, char *key, int key_length, char **value, int *value_length)
{
    (void)domain, (void)map, (void)key, (void)key_length;
    *value = 0;
    *value_length = 0;
    return NO_SUCH_MAP;
}
