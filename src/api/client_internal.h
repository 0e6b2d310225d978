/* What client.c and client_socket.c share. */
#ifndef CAL_API_CLIENT_INTERNAL_H
#define CAL_API_CLIENT_INTERNAL_H

#include <curl/curl.h>

#include "calimero/client.h"

void client_init_curl(void); /* once for the process; any thread */
const char *client_token(const cal_client *client);
uint32_t client_connect_timeout(const cal_client *client);
int client_curl_fail(CURLcode code, const char *url, const char *detail,
                     cal_error *err); /* a CAL_E* for curl's code */
/* A proxy of the environment cannot reach this machine's own loopback. */
void client_no_proxy_for_loopback(CURL *curl, const char *url);

#endif
