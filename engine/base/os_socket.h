/* A listening socket that only this machine reaches. */
#ifndef AT_OS_SOCKET_H
#define AT_OS_SOCKET_H

#include "status.h"

/* On 127.0.0.1; *port 0 becomes the free one that the system chose. AT_CANNOT_WRITE when it is
 * taken or not allowed. */
AT_CHECKED at_loopback_listen(int *out_fd, uint16_t *port);
void at_loopback_close(int fd); /* below 0: nothing */

#endif
