/* Name resolution and outgoing connections of the real machine (both block: callers are workers),
 * and what a thread with sockets needs. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/posix/posix.h"

void cal_os_block_sigpipe(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int cal_posix_resolve(void *user, const char *host, cal_os_address *ret_addresses,
                      size_t *ret_count) {
    (void)user;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) != 0) return CAL_EUNREACHABLE;
    size_t count = 0;
    for (struct addrinfo *at = found; at && count < CAL_OS_ADDRESSES_MAX; at = at->ai_next) {
        cal_os_address *address = &ret_addresses[count];
        if (at->ai_family == AF_INET) {
            memcpy(address->bytes, &((struct sockaddr_in *)(void *)at->ai_addr)->sin_addr, 4);
            address->len = 4;
        } else if (at->ai_family == AF_INET6) {
            memcpy(address->bytes, &((struct sockaddr_in6 *)(void *)at->ai_addr)->sin6_addr, 16);
            address->len = 16;
        } else {
            continue;
        }
        count++;
    }
    freeaddrinfo(found);
    if (count == 0) return CAL_EUNREACHABLE;
    *ret_count = count;
    return 0;
}

/* Copied as bytes: a sockaddr_storage may not be written through another type and read as itself.
 */
static socklen_t socket_address(const cal_os_address *address, uint16_t port,
                                struct sockaddr_storage *ret) {
    if (address->len == 4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in.sin_addr, address->bytes, 4);
        memcpy(ret, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&in6.sin6_addr, address->bytes, 16);
    memcpy(ret, &in6, sizeof in6);
    return sizeof in6;
}

/* Waits for a connect that is under way. */
static int await_connect(int fd, uint32_t timeout_ms) {
    struct pollfd waiting = {.fd = fd, .events = POLLOUT};
    int ready;
    do ready = poll(&waiting, 1, (int)timeout_ms);
    while (ready < 0 && errno == EINTR);
    if (ready == 0) return CAL_ETIMEOUT;
    int failure = 0;
    socklen_t len = sizeof failure;
    if (ready < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) != 0 || failure != 0)
        return CAL_EUNREACHABLE;
    return 0;
}

int cal_posix_connect(void *user, const cal_os_address *address, uint16_t port, uint32_t timeout_ms,
                      int *ret_socket) {
    (void)user;
    struct sockaddr_storage target = {0};
    socklen_t len = socket_address(address, port, &target);
    int fd = socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return cal_posix_code(errno);
    int rc = 0;
    if (connect(fd, (struct sockaddr *)&target, len) != 0)
        rc = errno == EINPROGRESS ? await_connect(fd, timeout_ms) : CAL_EUNREACHABLE;
    if (rc == 0 && fcntl(fd, F_SETFL, 0) != 0)
        rc = cal_posix_code(errno); /* blocking from here on */
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *ret_socket = fd;
    return 0;
}
