#include "server.h"

#include "os.h"

#ifdef ATTUNE_HAS_MICROHTTPD

#include "label_texts.h"
#include "os_socket.h"

#include <microhttpd.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { TOKEN_BYTES = 16, MAX_BODY = 4 << 20, WAIT_MS = 200 };

struct server {
    struct at_labels *labels;
    char token[2 * TOKEN_BYTES + 1];
    char hosts[2][32];        /* what browsers may call this server */
    bool finishing, finished; /* asked for; its answer is sent */
};

/* A request's body as it comes in. */
struct request {
    struct at_buf body;
    bool too_long;
};

/* ---- answers ---- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              const char *text, size_t n)
{
    static const char *const headers[][2] = {
        { "Cache-Control", "no-store" },
        { "Content-Security-Policy",
          "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri "
          "'none'; form-action 'none'; frame-ancestors 'none'" },
        { "Referrer-Policy", "no-referrer" },
        { "X-Content-Type-Options", "nosniff" },
    };
    struct MHD_Response *response =
        MHD_create_response_from_buffer(n, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result;

    if (!response)
        return MHD_NO;
    for (size_t i = 0; i < AT_COUNT(headers); i++)
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
    MHD_add_response_header(response, "Content-Type", type);
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_json(struct MHD_Connection *connection, unsigned status,
                                   const cJSON *json)
{
    struct at_buf text = { 0 };
    enum MHD_Result result = MHD_NO;

    at_json_write(&text, json);
    if (at_buf_status(&text) == AT_OK)
        result = answer(connection, status, "application/json", text.data, text.n);
    at_buf_release(&text);
    return result;
}

/* The last error as {"error": "..."}: 400 for what was asked, 500 for what could not be done. */
static enum MHD_Result answer_error(struct MHD_Connection *connection, enum at_status st)
{
    cJSON *json = cJSON_CreateObject();
    enum MHD_Result result;

    cJSON_AddStringToObject(json, "error", at_message());
    result = answer_json(
        connection, st == AT_DATA ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_INTERNAL_SERVER_ERROR, json);
    cJSON_Delete(json);
    return result;
}

static enum MHD_Result answer_nothing(struct MHD_Connection *connection, unsigned status)
{
    static const char text[] = "There is nothing here. Open the address that attune printed.\n";

    return answer(connection, status, "text/plain; charset=utf-8", text, sizeof text - 1);
}

static enum MHD_Result answer_pair(struct MHD_Connection *connection, const struct server *s,
                                   uint32_t place)
{
    enum MHD_Result result;
    cJSON *json = NULL;
    const enum at_status st = at_labels_show(&json, s->labels, place);

    if (st != AT_OK)
        return answer_error(connection, st);
    result = answer_json(connection, MHD_HTTP_OK, json);
    cJSON_Delete(json);
    return result;
}

/* ---- requests ---- */

static enum MHD_Result page(struct MHD_Connection *connection, struct server *s,
                            const struct request *r)
{
    (void)s;
    (void)r;
    return answer(connection, MHD_HTTP_OK, "text/html; charset=utf-8", text_page_html,
                  sizeof text_page_html - 1);
}

static enum MHD_Result script(struct MHD_Connection *connection, struct server *s,
                              const struct request *r)
{
    (void)s;
    (void)r;
    return answer(connection, MHD_HTTP_OK, "text/javascript; charset=utf-8", text_page_js,
                  sizeof text_page_js - 1);
}

static enum MHD_Result style(struct MHD_Connection *connection, struct server *s,
                             const struct request *r)
{
    (void)s;
    (void)r;
    return answer(connection, MHD_HTTP_OK, "text/css; charset=utf-8", text_page_css,
                  sizeof text_page_css - 1);
}

static enum MHD_Result next(struct MHD_Connection *connection, struct server *s,
                            const struct request *r)
{
    (void)r;
    return answer_pair(connection, s, UINT32_MAX);
}

/* {"place": n}, or an answer, whose pair is then decided: what is shown next. */
static enum MHD_Result take(struct MHD_Connection *connection, struct server *s,
                            const struct request *r, bool decides)
{
    enum at_status st;
    uint32_t place = UINT32_MAX;
    cJSON *json = NULL;

    TRY(at_json_parse(&json, r->body.data ? r->body.data : "", r->body.n, "answer", 1));
    if (decides)
        TRY(at_labels_put(s->labels, json));
    else
        TRY(at_json_need_u32(&place, json, "place", "answer"));
done:
    at_json_free(&json);
    return st == AT_OK ? answer_pair(connection, s, place) : answer_error(connection, st);
}

static enum MHD_Result show(struct MHD_Connection *connection, struct server *s,
                            const struct request *r)
{
    return take(connection, s, r, false);
}

static enum MHD_Result label(struct MHD_Connection *connection, struct server *s,
                             const struct request *r)
{
    return take(connection, s, r, true);
}

static enum MHD_Result finish(struct MHD_Connection *connection, struct server *s,
                              const struct request *r)
{
    (void)r;
    s->finishing = true;
    return answer(connection, MHD_HTTP_OK, "application/json", "{}", 2);
}

static const struct {
    const char *method, *path; /* behind the token */
    enum MHD_Result (*handle)(struct MHD_Connection *connection, struct server *s,
                              const struct request *r);
} routes[] = {
    { "GET", "", page },          { "GET", "next", next },      { "GET", "page.css", style },
    { "GET", "page.js", script }, { "POST", "finish", finish }, { "POST", "label", label },
    { "POST", "show", show },
};

/* A page of another site may send a browser here, or call it by a name of its own. */
static bool is_ours(const struct server *s, struct MHD_Connection *connection)
{
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    const char *origin = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin");
    bool ours = false;

    for (size_t i = 0; host && i < AT_COUNT(s->hosts); i++)
        ours = ours || (strcmp(host, s->hosts[i]) == 0 &&
                        (!origin || (strncmp(origin, "http://", 7) == 0 &&
                                     strcmp(origin + 7, s->hosts[i]) == 0)));
    return ours;
}

static enum MHD_Result dispatch(struct server *s, struct MHD_Connection *connection,
                                const char *url, const char *method, const struct request *r)
{
    const size_t n = 2 * TOKEN_BYTES;

    if (!is_ours(s, connection))
        return answer_nothing(connection, MHD_HTTP_FORBIDDEN);
    if (strlen(url) < n + 2 || url[n + 1] != '/' || sodium_memcmp(url + 1, s->token, n) != 0)
        return answer_nothing(connection, MHD_HTTP_NOT_FOUND);
    if (r->too_long)
        return answer_nothing(connection, MHD_HTTP_CONTENT_TOO_LARGE);
    for (size_t i = 0; i < AT_COUNT(routes); i++)
        if (strcmp(routes[i].method, method) == 0 && strcmp(routes[i].path, url + n + 2) == 0)
            return routes[i].handle(connection, s, r);
    return answer_nothing(connection, MHD_HTTP_NOT_FOUND);
}

/* Called when a request begins, for each part of its body, and when it is whole. */
static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data, size_t *n,
                              void **state)
{
    struct request *r = *state;

    (void)version;
    if (!r) {
        if (at_alloc(&r, 1, sizeof *r) != AT_OK)
            return MHD_NO;
        *state = r;
        return MHD_YES;
    }
    if (*n > 0) {
        r->too_long = r->too_long || r->body.n + *n > MAX_BODY;
        if (!r->too_long)
            at_buf_put(&r->body, data, *n);
        *n = 0;
        return at_buf_status(&r->body) == AT_OK ? MHD_YES : MHD_NO;
    }
    return dispatch(context, connection, url, method, r);
}

static void completed(void *context, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code)
{
    struct server *s = context;
    struct request *r = *state;

    (void)connection;
    (void)code;
    s->finished = s->finishing;
    if (r)
        at_buf_release(&r->body);
    at_free(&r);
    *state = NULL;
}

/* ---- life ---- */

static void make_token(struct server *s)
{
    uint8_t bytes[TOKEN_BYTES];

    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(s->token, sizeof s->token, bytes, sizeof bytes);
}

AT_CHECKED at_label_serve(struct at_labels *labels, uint16_t port,
                          void (*ready)(void *context, const char *url), void *context)
{
    enum at_status st;
    struct server s = { .labels = labels };
    struct MHD_Daemon *daemon = NULL;
    char url[96];
    int fd = -1;

    if (sodium_init() < 0)
        FAIL(AT_INTERNAL, "libsodium cannot be started");
    make_token(&s);
    TRY(at_loopback_listen(&fd, &port));
    snprintf(s.hosts[0], sizeof s.hosts[0], "127.0.0.1:%u", port);
    snprintf(s.hosts[1], sizeof s.hosts[1], "localhost:%u", port);
    daemon = MHD_start_daemon(MHD_NO_FLAG, 0, NULL, NULL, handle, &s, MHD_OPTION_LISTEN_SOCKET, fd,
                              MHD_OPTION_CONNECTION_LIMIT, 32u, MHD_OPTION_CONNECTION_TIMEOUT, 120u,
                              MHD_OPTION_NOTIFY_COMPLETED, completed, &s, MHD_OPTION_END);
    if (!daemon)
        FAIL(AT_IO, "port %u: the page cannot be served", port);
    fd = -1; /* the daemon's now */
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%s/", port, s.token);
    ready(context, url);
    while (!s.finished && at_signal_status() == AT_OK)
        if (MHD_run_wait(daemon, WAIT_MS) != MHD_YES)
            FAIL(AT_IO, "port %u: the page cannot be served any more", port);
    st = s.finished ? AT_OK : at_signal_status();
    if (st != AT_OK)
        FAIL(st, "stopped by a signal; every decision so far is on the disk");
done:
    if (daemon)
        MHD_stop_daemon(daemon);
    at_loopback_close(fd);
    return st;
}

#else

AT_CHECKED at_label_serve(struct at_labels *labels, uint16_t port,
                          void (*ready)(void *context, const char *url), void *context)
{
    (void)labels;
    (void)port;
    (void)ready;
    (void)context;
    return at_fail(AT_USAGE, "this build has no web page: it was built without libmicrohttpd (apt "
                             "install libmicrohttpd-dev, then build again)");
}

#endif
