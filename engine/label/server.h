/* The page on which people judge pairs: HTTP on the loopback interface, for one person's browser.
 *
 * Everything lies under a random token in the path; requests for another host name, from another
 * origin or without the token get 404 or 403 and see nothing. */
#ifndef AT_SERVER_H
#define AT_SERVER_H

#include "label.h"

/* Serves until the page says that it is finished (AT_OK) or a signal comes (AT_INTERRUPTED,
 * AT_TERMINATED). port 0: one that is free. `ready` is called once with the page's address. What an
 * answer cannot be written for is told on the page, which stays where it is. AT_CANNOT_WRITE when
 * the port is taken; AT_USAGE in a build without libmicrohttpd. */
AT_CHECKED at_label_serve(struct at_labels *labels, uint16_t port,
                          void (*ready)(void *context, const char *url), void *context);

#endif
