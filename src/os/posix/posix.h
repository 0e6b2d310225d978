/* What the files of os/posix share. */
#ifndef CAL_OS_POSIX_H
#define CAL_OS_POSIX_H

#include "os/os.h"

int cal_posix_code(int error_number); /* errno to CAL_E* */
int cal_posix_resolve(void *user, const char *host, cal_os_address *ret_addresses,
                      size_t *ret_count);
int cal_posix_connect(void *user, const cal_os_address *address, uint16_t port, uint32_t timeout_ms,
                      int *ret_socket);

#endif
