#include "os_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

AT_CHECKED at_loopback_listen(int *out_fd, uint16_t *port)
{
    enum at_status st = AT_OK;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(*port) };
    socklen_t n = sizeof address;
    const int yes = 1;
    int fd;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 32) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &n) != 0)
        FAIL(AT_CANNOT_WRITE, "port %u of 127.0.0.1: %s; name another one, or 0 for any", *port,
             strerror(errno));
    *port = ntohs(address.sin_port);
    *out_fd = fd;
    fd = -1;
done:
    at_loopback_close(fd);
    return st;
}

void at_loopback_close(int fd)
{
    if (fd >= 0)
        close(fd);
}
