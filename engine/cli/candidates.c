#include "candidates.h"

#include "overlap.h"
#include "rng.h"

#include <ctype.h>
#include <string.h>

enum { DRAWS = 4, SHOWN_SEEDS = 3 };

/* Without sampling, each would be the same. */
static size_t draws_of(const struct cli_voice *voice)
{
    return voice->params.number[CLI_TEMPERATURE] > 0 ? DRAWS : 1;
}

/* Prints and frees it. */
static AT_CHECKED print_row(cJSON *row)
{
    enum at_status st = AT_OK;

    cJSON_AddBoolToObject(row, "synthetic", true);
    cJSON_AddBoolToObject(row, "reviewed", false);
    TRY(cli_print_line(row));
    if (fflush(stdout) != 0)
        FAIL(AT_IO, "stdout: cannot be written");
done:
    cJSON_Delete(row);
    return st;
}

/* ---- pairs ---- */

struct pairing {
    char *first; /* the voice's reply */
    uint32_t n_made, n_equal, n_empty, n_cut;
};

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The prompt as both voices were asked: a system message is part of it where they share it. */
static cJSON *shared_prompt(struct cli_session *s, size_t i)
{
    const struct cli_prompts *p = &s->voice.prompts;
    struct cli_prompts bare = *p;

    if (!same_text(p->system, s->other.prompts.system))
        bare.system = NULL;
    return cli_prompts_json(&bare, i);
}

static AT_CHECKED pair(struct cli_session *s, struct pairing *work, size_t i)
{
    enum at_status st = AT_OK;
    const size_t n = s->voice.prompts.n;
    const size_t draws = draws_of(&s->other);
    cJSON *row = NULL, *list = NULL;
    bool cut = false;

    TRY(cli_session_reply(s, &s->voice, i, i));
    TRY(at_arena_strdup(&s->arena, &work->first, s->reply.text.data));
    cut = s->end == AT_END_LENGTH;
    for (size_t k = 1; k <= draws; k++) {
        TRY(cli_session_reply(s, &s->other, i, i + k * n));
        if (!at_is_exact_match(work->first, s->reply.text.data) &&
            !at_is_exact_match(s->reply.text.data, ""))
            break;
    }
    if (at_is_exact_match(work->first, "") || at_is_exact_match(s->reply.text.data, "")) {
        work->n_empty++;
        goto done;
    }
    if (at_is_exact_match(work->first, s->reply.text.data)) {
        work->n_equal++;
        goto done;
    }
    work->n_cut += cut || s->end == AT_END_LENGTH;
    work->n_made++;
    row = cJSON_CreateObject();
    cJSON_AddItemToObject(row, "prompt", shared_prompt(s, i));
    list = cJSON_AddArrayToObject(row, "responses");
    cJSON_AddItemToArray(list, cJSON_CreateString(work->first));
    cJSON_AddItemToArray(list, cJSON_CreateString(s->reply.text.data));
    TRY(print_row(row));
done:
    return st;
}

AT_CHECKED cli_pairs_print(struct cli_session *s)
{
    enum at_status st = AT_OK;
    struct pairing work = { .first = NULL };

    for (size_t i = 0; i < s->voice.prompts.n; i++)
        TRY(pair(s, &work, i));
    cli_note("pairs    %u of %zu prompts; left out: %u with equal replies, %u with an empty one",
             work.n_made, s->voice.prompts.n, work.n_equal, work.n_empty);
    if (work.n_cut > 0)
        cli_note("cut off  in %u pairs a reply reached --max_new_tokens", work.n_cut);
    if (work.n_made == 0)
        FAIL(AT_DATA, "no pair was made: both ways reply the same; let them differ more with "
                      "--other_temperature, --other_adapter or --other_system_prompt");
done:
    return st;
}

/* ---- prompts ---- */

/* On one line. */
static void put_seed(struct at_buf *out, const char *text)
{
    at_buf_puts(out, "- ");
    for (; *text; text++)
        at_buf_put(out, *text == '\n' || *text == '\r' ? " " : text, 1);
    at_buf_puts(out, "\n");
}

AT_CHECKED cli_vary_ask(struct cli_session *s, const struct cli_prompts *seeds, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    uint32_t *order = NULL;
    char *copy = NULL;

    TRY(at_arena_alloc(&s->arena, &order, seeds->n, sizeof *order));
    for (uint32_t k = 0; k < n; k++) {
        struct at_rng rng =
            at_rng_make((uint64_t)s->voice.params.number[CLI_SEED], AT_RNG_VARY, k, 0);
        for (uint32_t i = 0; i < seeds->n; i++)
            order[i] = i;
        at_rng_shuffle(&rng, order, seeds->n);
        at_buf_clear(&text);
        at_buf_puts(&text, "Here are messages that people sent to an assistant:\n\n");
        for (size_t i = 0; i < seeds->n && i < SHOWN_SEEDS; i++)
            put_seed(&text, cli_prompt_text(&seeds->items[order[i]]));
        if (s->bundle.chat && !s->voice.prompts.raw)
            at_buf_puts(&text, "\nWrite one more message that such a person could send, about "
                               "something else. Answer with that message alone, on one line.");
        else
            at_buf_puts(&text, "-"); /* the list goes on */
        TRY(at_buf_status(&text));
        TRY(at_arena_strdup(&s->arena, &copy, text.data));
        TRY(cli_prompts_add(&s->voice.prompts, copy));
    }
done:
    at_buf_release(&text);
    return st;
}

/* The first line that says something, without the marks of a list and quotes around it. */
static void first_line(char *text)
{
    char *begin = text, *end;

    while (*begin && strchr(" \t\r\n-*\"", *begin))
        begin++;
    if (isdigit((unsigned char)*begin)) { /* "4. " */
        const char *digits = begin + strspn(begin, "0123456789");
        if ((*digits == '.' || *digits == ')') && digits[1] == ' ')
            begin += digits + 2 - begin;
    }
    end = begin + strcspn(begin, "\r\n");
    while (end > begin && strchr(" \t\"", end[-1]))
        end--;
    memmove(text, begin, (size_t)(end - begin));
    text[end - begin] = 0;
}

static AT_CHECKED is_new(bool *out, const struct cli_prompts *seeds, char *const *made, size_t n,
                         const char *text)
{
    static const double too_like = 0.7;
    enum at_status st = AT_OK;
    double like = 0;

    *out = false;
    for (size_t i = 0; i < seeds->n + n; i++) {
        const char *other = i < seeds->n ? cli_prompt_text(&seeds->items[i]) : made[i - seeds->n];
        TRY(at_rouge_l(&like, text, other));
        if (like >= too_like || at_is_exact_match(text, other))
            goto done;
    }
    *out = true;
done:
    return st;
}

AT_CHECKED cli_vary_print(struct cli_session *s, const struct cli_prompts *seeds)
{
    enum at_status st = AT_OK;
    const size_t n = s->voice.prompts.n, draws = draws_of(&s->voice);
    char **made = NULL;
    cJSON *row = NULL, *list = NULL, *m = NULL;
    size_t n_made = 0;

    TRY(at_arena_alloc(&s->arena, &made, n, sizeof *made));
    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        bool found = false;
        for (size_t k = 0; k < draws && !found; k++) {
            TRY(cli_session_reply(s, &s->voice, i, i + k * n));
            TRY(at_arena_strdup(&s->arena, &text, s->reply.text.data));
            first_line(text);
            if (*text && s->end == AT_END_STOP)
                TRY(is_new(&found, seeds, made, n_made, text));
        }
        if (!found)
            continue;
        made[n_made++] = text;
        row = cJSON_CreateObject();
        list = cJSON_AddArrayToObject(row, "prompt");
        m = cJSON_CreateObject();
        cJSON_AddStringToObject(m, "role", "user");
        cJSON_AddStringToObject(m, "content", text);
        cJSON_AddItemToArray(list, m);
        TRY(print_row(row));
    }
    cli_note("prompts  %zu of %zu; the others were cut off, empty or too like a seed or an earlier "
             "one in %zu draw%s",
             n_made, n, draws, draws > 1 ? "s" : "");
    if (n_made == 0)
        FAIL(AT_DATA, "no prompt was made; raise --temperature or --max_new_tokens, or take a "
                      "model that follows instructions");
done:
    return st;
}
