/* Argilla's records as rows: what people ranked, chose, rated or wrote, in this order of worth. */
#include "forms_parts.h"

#include "argilla.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { MAX_REPLIES = 32, NAME_BYTES = 64, NOT_FOUND = -1 };

/* A name as it is compared: small letters and digits of ASCII, other bytes as they are. */
struct name {
    char text[NAME_BYTES];
    size_t n;
};

static struct name name_of(const char *text, size_t n)
{
    struct name out = { .n = 0 };

    for (size_t i = 0; i < n && out.n + 1 < sizeof out.text; i++)
        if (isalnum((unsigned char)text[i]) || (unsigned char)text[i] >= 0x80)
            out.text[out.n++] = (char)tolower((unsigned char)text[i]);
    return out;
}

static bool has_word(const struct name *name, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strstr(name->text, words[i]))
            return true;
    return false;
}

/* Whether a question asks why, not which or what. */
static bool is_remark(const struct name *name)
{
    static const char *const words[] = { "comment", "explan",    "feedback",
                                         "note",    "rationale", "reason" };

    return has_word(name, words, AT_COUNT(words));
}

/* Whether a field holds a reply, or a question asks for one. */
static bool is_of_reply(const struct name *name)
{
    static const char *const words[] = { "answer", "candidate",  "chosen", "completion", "correct",
                                         "edit",   "generation", "ideal",  "improve",    "option",
                                         "output", "rejected",   "reply",  "response",   "rewrit" };

    return !is_remark(name) && has_word(name, words, AT_COUNT(words));
}

/* A reply by its number: "2", "Reply 2", "option-2"; no sentence that ends with one. */
static bool is_numbered(const struct name *name)
{
    static const char *const words[] = { "",           "answer",     "candidate",
                                         "completion", "generation", "option",
                                         "output",     "reply",      "response" };
    const size_t n = strcspn(name->text, "0123456789");

    for (size_t i = 0; i < AT_COUNT(words); i++)
        if (strlen(words[i]) == n && memcmp(words[i], name->text, n) == 0)
            return true;
    return false;
}

/* ---- the parts of a record ---- */

/* Where metadata are columns like the fields. */
static const char mixed_remedy[] =
    "; among these columns only those named reply, response, completion and the like, with or "
    "without a number, and those that an answer names are replies: to_json tells all fields apart";

/* What a record asks about. */
struct asked {
    const struct at_argilla *record;
    const cJSON *prompt, *context, *system; /* or NULL */
    const struct at_argilla_field *replies[MAX_REPLIES];
    struct name names[MAX_REPLIES];
    int n;
};

static const cJSON *find_field(const struct at_argilla *r, const char *const *names, size_t n)
{
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < r->n_fields; i++)
            if (strcmp(r->fields[i].name, names[k]) == 0)
                return r->fields[i].value;
    return NULL;
}

/* Item i of a ranking: its reply's name and rank. A list of names is in their order. */
static const char *ranked(const cJSON *value, int i, double *rank)
{
    const cJSON *names = at_json_find(value, "value"), *ranks = at_json_find(value, "rank");
    const cJSON *item = cJSON_GetArrayItem(cJSON_IsObject(value) ? names : value, i);
    const cJSON *number =
        cJSON_IsObject(value) ? cJSON_GetArrayItem(ranks, i) : at_json_find(item, "rank");

    *rank = cJSON_IsString(item) && !cJSON_IsObject(value) ? i : -1;
    if (cJSON_IsNumber(number))
        *rank = number->valuedouble;
    return cJSON_GetStringValue(cJSON_IsObject(item) ? at_json_find(item, "value") : item);
}

static int n_ranked(const cJSON *value)
{
    if (cJSON_IsObject(value))
        return cJSON_GetArraySize(at_json_find(value, "value"));
    return cJSON_IsArray(value) ? cJSON_GetArraySize(value) : 0;
}

static bool is_same(const struct name *a, const struct name *b)
{
    return a->n == b->n && memcmp(a->text, b->text, a->n) == 0;
}

/* Whether an answer is this name, or ranks it. */
static bool is_answered(const struct at_argilla *r, const struct name *name)
{
    double rank = 0;

    for (size_t k = 0; k < r->n_answers; k++) {
        const cJSON *value = r->answers[k].value;
        const char *text = cJSON_GetStringValue(value);
        const int n = text ? 1 : n_ranked(value);
        for (int i = 0; i < n; i++) {
            const char *word = text ? text : ranked(value, i, &rank);
            const struct name other = word ? name_of(word, strlen(word)) : (struct name){ .n = 0 };
            if (other.n > 0 && is_same(&other, name))
                return true;
        }
    }
    return false;
}

/* Whether a field among metadata is a reply: one whose whole name says so, or that an answer names.
 */
static bool is_surely_reply(const struct at_argilla *r, const struct name *name)
{
    static const char *const words[] = { "chosen", "rejected" };

    for (size_t i = 0; i < AT_COUNT(words); i++) {
        const struct name word = name_of(words[i], strlen(words[i]));
        if (is_same(&word, name))
            return true;
    }
    return (!isdigit((unsigned char)name->text[0]) && is_numbered(name)) || is_answered(r, name);
}

/* Fields that are neither the prompt nor beside it may be replies. */
static AT_CHECKED read_asked(struct asked *out, const struct at_argilla *r)
{
    static const char *const prompts[] = { "instruction", "prompt",       "question",
                                           "query",       "messages",     "chat",
                                           "input",       "conversation", "conversations" };
    static const char *const contexts[] = { "context", "background" };
    static const char *const systems[] = { "system_prompt", "system" };
    enum at_status st = AT_OK;

    *out = (struct asked){ .record = r,
                           .prompt = find_field(r, prompts, AT_COUNT(prompts)),
                           .context = find_field(r, contexts, AT_COUNT(contexts)),
                           .system = find_field(r, systems, AT_COUNT(systems)) };
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct at_argilla_field *f = &r->fields[i];
        if (f->value == out->prompt || f->value == out->context || f->value == out->system ||
            !cJSON_IsString(f->value) || strcmp(f->name, "id") == 0)
            continue;
        const struct name name = name_of(f->name, strlen(f->name));
        if (r->mixed && !is_surely_reply(r, &name))
            continue;
        if (out->n == MAX_REPLIES)
            FAIL(AT_DATA, "a record of more than %d fields", MAX_REPLIES);
        out->names[out->n] = name;
        out->replies[out->n++] = f;
    }
done:
    return st;
}

/* The number at the end of a name; -1 where there is none. */
static long number_of(const struct name *name)
{
    size_t at = name->n;
    long number = 0;

    while (at > 0 && isdigit((unsigned char)name->text[at - 1]))
        at--;
    if (at == name->n || name->n - at > 6)
        return NOT_FOUND;
    for (; at < name->n; at++)
        number = 10 * number + (name->text[at] - '0');
    return number;
}

/* The only reply whose name ends with the same number. */
static int find_numbered(const struct asked *a, const struct name *name)
{
    const long number = number_of(name);
    int found = NOT_FOUND;

    for (int i = 0; number >= 0 && i < a->n; i++) {
        if (number_of(&a->names[i]) != number)
            continue;
        if (found >= 0)
            return NOT_FOUND;
        found = i;
    }
    return found;
}

/* The reply that a value of an answer names: "Response 1" is response1, "reply-1", too. */
static int find_reply(const struct asked *a, const char *text)
{
    const struct name name = name_of(text, strlen(text));

    for (int i = 0; i < a->n; i++)
        if (is_same(&a->names[i], &name))
            return i;
    return is_numbered(&name) ? find_numbered(a, &name) : NOT_FOUND;
}

/* The reply that a question is named after: it begins or ends with the reply's name, the longest.
 */
static int find_named(const struct asked *a, const struct name *question)
{
    const struct name name = *question;
    int found = NOT_FOUND;

    for (int i = 0; i < a->n; i++) {
        const struct name *r = &a->names[i];
        if (r->n > name.n || r->n == 0 ||
            (memcmp(name.text, r->text, r->n) != 0 &&
             memcmp(name.text + name.n - r->n, r->text, r->n) != 0))
            continue;
        if (found < 0 || r->n > a->names[found].n)
            found = i;
    }
    return found;
}

/* The reply that a question is about: its name has the reply's, or the same number. */
static int find_rated(const struct asked *a, const struct at_argilla_answer *answer)
{
    const struct name name = name_of(answer->question, answer->n_question);
    const int found = find_named(a, &name);

    return found >= 0 ? found : find_numbered(a, &name);
}

/* ---- votes: how much each person liked each reply ---- */

struct votes {
    double *sum;       /* (n_users, n) */
    uint32_t *n_given; /* (n_users, n) */
    size_t n_users;    /* one an answer at most */
    int n;
};

static void put_vote(struct votes *v, size_t user, int reply, double score)
{
    v->sum[user * (size_t)v->n + (size_t)reply] += score;
    v->n_given[user * (size_t)v->n + (size_t)reply]++;
}

/* The first answer of the same person; answers of nobody are each of another. */
static size_t user_of(const struct at_argilla *r, size_t answer)
{
    const char *user = r->answers[answer].user;

    for (size_t i = 0; user && i < answer; i++)
        if (r->answers[i].user && strcmp(r->answers[i].user, user) == 0)
            return i;
    return answer;
}

static AT_CHECKED fail_unknown(const struct asked *a, const struct at_argilla_answer *answer,
                               const char *value)
{
    enum at_status st = AT_OK;
    struct at_buf names = { 0 };

    for (int i = 0; i < a->n; i++)
        at_buf_printf(&names, "%s%.40s", i > 0 ? ", " : "", a->replies[i]->name);
    TRY(at_buf_status(&names));
    FAIL(AT_DATA, "the answer to \"%.*s\" names \"%.40s\", and the replies are %s%s",
         (int)(answer->n_question < 60 ? answer->n_question : 60), answer->question, value,
         names.n > 0 ? names.data : "none", a->record->mixed ? mixed_remedy : "");
done:
    at_buf_release(&names);
    return st;
}

/* Whether some of its names are replies; a list of other labels is none. */
static bool is_ranking(const struct asked *a, const struct at_argilla_answer *answer)
{
    double rank = 0;

    for (int i = 0; i < n_ranked(answer->value); i++) {
        const char *name = ranked(answer->value, i, &rank);
        if (name && find_reply(a, name) >= 0)
            return a->n > 1;
    }
    return false;
}

static AT_CHECKED put_ranking(struct votes *v, const struct asked *a, size_t k)
{
    enum at_status st = AT_OK;
    const struct at_argilla_answer *answer = &a->record->answers[k];
    double rank = 0;

    for (int i = 0; i < n_ranked(answer->value); i++) {
        const char *name = ranked(answer->value, i, &rank);
        const int reply = name ? find_reply(a, name) : NOT_FOUND;
        if (reply < 0)
            TRY(fail_unknown(a, answer, name ? name : "what is no name"));
        else if (rank >= 0) /* without one it was not ranked */
            put_vote(v, user_of(a->record, k), reply, -rank);
    }
done:
    return st;
}

static bool is_tie(const char *text)
{
    static const char *const words[] = { "both",    "draw", "equal", "equally good",
                                         "neither", "none", "same",  "tie" };
    const struct name name = name_of(text, strlen(text));

    for (size_t i = 0; i < AT_COUNT(words); i++) {
        const struct name word = name_of(words[i], strlen(words[i]));
        if (is_same(&word, &name))
            return true;
    }
    return false;
}

static bool is_choice(const struct asked *a, const struct at_argilla_answer *answer)
{
    const char *text = cJSON_GetStringValue(answer->value);
    const struct name question = name_of(answer->question, answer->n_question);

    return text && a->n > 1 && strlen(text) < NAME_BYTES && !is_remark(&question) &&
           find_named(a, &question) < 0 && (find_reply(a, text) >= 0 || is_tie(text));
}

/* Replies beside the one that was chosen: of the same name but for its number, or named as replies
 * are. */
static bool is_beside(const struct asked *a, int i, int chosen)
{
    const struct name *x = &a->names[i], *y = &a->names[chosen];
    const size_t nx = strcspn(x->text, "0123456789"), ny = strcspn(y->text, "0123456789");

    return (nx == ny && memcmp(x->text, y->text, nx) == 0) || (is_of_reply(x) && is_of_reply(y));
}

/* Of a tie neither is liked more: it is no vote. */
static AT_CHECKED put_choice(struct votes *v, const struct asked *a, size_t k)
{
    const int chosen = find_reply(a, a->record->answers[k].value->valuestring);

    for (int i = 0; chosen >= 0 && i < a->n; i++)
        if (is_beside(a, i, chosen))
            put_vote(v, user_of(a->record, k), i, i == chosen);
    return AT_OK;
}

static bool is_rating(const struct asked *a, const struct at_argilla_answer *answer)
{
    return cJSON_IsNumber(answer->value) && a->n > 1 && find_rated(a, answer) >= 0;
}

static AT_CHECKED put_rating(struct votes *v, const struct asked *a, size_t k)
{
    const struct at_argilla_answer *answer = &a->record->answers[k];

    put_vote(v, user_of(a->record, k), find_rated(a, answer), answer->value->valuedouble);
    return AT_OK;
}

/* Kinds of answers that prefer a reply, the most telling first. */
static const struct {
    bool (*is)(const struct asked *asked, const struct at_argilla_answer *answer);
    AT_CHECKED (*put)(struct votes *votes, const struct asked *asked, size_t answer);
    bool of_one_question;
} kinds[] = {
    { is_ranking, put_ranking, true },
    { is_choice, put_choice, true },
    { is_rating, put_rating, false },
};

static double score_of(const struct votes *v, size_t user, int reply, bool *given)
{
    const size_t at = user * (size_t)v->n + (size_t)reply;

    *given = v->n_given[at] > 0;
    return *given ? v->sum[at] / v->n_given[at] : 0;
}

/* Each person's mean, and the mean of these; *given: somebody voted. */
static double mean_of(const struct votes *v, int reply, bool *given)
{
    double sum = 0;
    size_t n = 0;
    bool voted = false;

    for (size_t u = 0; u < v->n_users; u++) {
        const double score = score_of(v, u, reply, &voted);
        sum += score;
        n += voted;
    }
    *given = n > 0;
    return n > 0 ? sum / (double)n : 0;
}

/* Whether more people like a than b, of those who judged both. */
static bool is_preferred(const struct votes *v, int a, int b)
{
    size_t above = 0, below = 0;

    for (size_t u = 0; u < v->n_users; u++) {
        bool both[2] = { false, false };
        const double x = score_of(v, u, a, &both[0]), y = score_of(v, u, b, &both[1]);
        above += both[0] && both[1] && x > y;
        below += both[0] && both[1] && x < y;
    }
    return above > below;
}

/* ---- what is learnt ---- */

struct learnt {
    const char *why_not; /* nothing; or NULL */
    const cJSON *prompt, *context, *system;
    const char *chosen, *rejected; /* rejected NULL: chosen alone */
};

static void choose_pair(struct learnt *out, const struct votes *v, const struct asked *a)
{
    int best = NOT_FOUND, worst = NOT_FOUND, n_judged = 0;
    double high = 0, low = 0;

    for (int i = 0; i < a->n; i++) {
        bool given = false;
        const double mean = mean_of(v, i, &given);
        n_judged += given;
        if (given && (best < 0 || mean > high)) {
            best = i;
            high = mean;
        }
        if (given && (worst < 0 || mean < low)) {
            worst = i;
            low = mean;
        }
    }
    if (n_judged == 1)
        out->why_not = "one reply alone was judged";
    else if (best == worst || !is_preferred(v, best, worst))
        out->why_not = "the answers tie, so no reply is preferred";
    if (out->why_not)
        return;
    out->chosen = a->replies[best]->value->valuestring;
    out->rejected = a->replies[worst]->value->valuestring;
}

/* Counts the votes of a kind of answers; *found: there are any. */
static AT_CHECKED judge_kind(struct learnt *out, bool *found, const struct asked *a, size_t kind)
{
    enum at_status st = AT_OK;
    const struct at_argilla *r = a->record;
    const struct at_argilla_answer *first = NULL;
    struct votes v = { .n_users = r->n_answers, .n = a->n };

    *found = false;
    TRY(at_alloc(&v.sum, v.n_users * (size_t)a->n + 1, sizeof *v.sum));
    TRY(at_alloc(&v.n_given, v.n_users * (size_t)a->n + 1, sizeof *v.n_given));
    for (size_t k = 0; k < r->n_answers; k++) {
        const struct at_argilla_answer *answer = &r->answers[k];
        if (!kinds[kind].is(a, answer))
            continue;
        if (first && kinds[kind].of_one_question && strcmp(first->question, answer->question) != 0)
            FAIL(AT_DATA,
                 "\"%.60s\" and \"%.60s\" both prefer a reply; which of the two counts is not "
                 "told: remove one",
                 first->question, answer->question);
        first = first ? first : answer;
        TRY(kinds[kind].put(&v, a, k));
    }
    *found = first != NULL;
    if (first)
        choose_pair(out, &v, a);
done:
    at_free(&v.sum);
    at_free(&v.n_given);
    return st;
}

/* A question for a reply, by its name. */
static bool asks_for_reply(const struct at_argilla_answer *answer)
{
    const struct name name = name_of(answer->question, answer->n_question);

    return is_of_reply(&name);
}

/* How many people wrote the same. */
static size_t count_same(const struct at_argilla *r, const char *text)
{
    size_t n = 0;

    for (size_t k = 0; k < r->n_answers; k++) {
        const char *other = cJSON_GetStringValue(r->answers[k].value);
        n += other && asks_for_reply(&r->answers[k]) && strcmp(other, text) == 0;
    }
    return n;
}

/* The only field that is named as a reply; *n: how many are. */
static const char *shown_reply(const struct asked *a, int *n)
{
    const char *found = NULL;

    *n = 0;
    for (int i = 0; i < a->n; i++)
        if (is_of_reply(&a->names[i])) {
            found = a->replies[i]->value->valuestring;
            (*n)++;
        }
    return *n == 1 ? found : NULL;
}

/* A reply that a person wrote: alone, or better than the only one that was shown. Of several people
 * the text that most of them wrote. */
static AT_CHECKED judge_text(struct learnt *out, bool *found, const struct asked *a)
{
    const struct at_argilla *r = a->record;
    const struct at_argilla_answer *first = NULL;
    int n_shown = 0;
    const char *shown = shown_reply(a, &n_shown);
    size_t most = 0;
    bool several = false;

    for (size_t k = 0; n_shown < 2 && k < r->n_answers; k++) {
        const char *text = cJSON_GetStringValue(r->answers[k].value);
        size_t n = 0;
        if (!text || !asks_for_reply(&r->answers[k]))
            continue;
        if (first && strcmp(first->question, r->answers[k].question) != 0)
            return at_fail(AT_DATA,
                           "\"%.60s\" and \"%.60s\" both ask for a reply; which of the two counts "
                           "is not told: remove one",
                           first->question, r->answers[k].question);
        first = first ? first : &r->answers[k];
        n = count_same(r, text);
        if (!out->chosen || n > most) {
            out->chosen = text;
            most = n;
            several = false;
        } else if (n == most && strcmp(text, out->chosen) != 0) {
            several = true;
        }
    }
    *found = first != NULL;
    if (several)
        out->why_not = "people wrote different replies, none more often than the others";
    if (out->chosen && shown && strcmp(out->chosen, shown) != 0)
        out->rejected = shown;
    return AT_OK;
}

static AT_CHECKED judge_answers(struct learnt *out, const struct asked *a)
{
    enum at_status st = AT_OK;
    bool found = false;

    if (!a->prompt)
        FAIL(AT_DATA, "none of the fields is instruction, prompt, question, query, messages, chat, "
                      "input or conversation; name the prompt one of these");
    *out = (struct learnt){ .prompt = a->prompt, .context = a->context, .system = a->system };
    for (size_t kind = 0; kind < AT_COUNT(kinds) && !found; kind++)
        TRY(judge_kind(out, &found, a, kind));
    if (!found)
        TRY(judge_text(out, &found, a));
    if (!found)
        FAIL(AT_DATA,
             "no answer ranks, chooses or rates two replies, or is the text of one "
             "(a question whose name has response, reply, completion, edit, correct or "
             "the like)%s",
             a->record->mixed ? mixed_remedy : "");
done:
    return st;
}

static AT_CHECKED judge(struct learnt *out, const struct at_argilla *r)
{
    enum at_status st = AT_OK;
    struct asked asked;

    *out = (struct learnt){ .why_not = NULL };
    if (r->n_answers > 0) {
        TRY(read_asked(&asked, r));
        TRY(judge_answers(out, &asked));
    } else if (r->n_drafts > 0 || r->n_discarded > 0) {
        out->why_not = r->n_drafts > 0 ? "no answer was submitted, there are drafts"
                                       : "the answers were discarded";
    } else {
        out->why_not =
            r->suggested ? "a model suggested answers, no person gave one" : "nobody has answered";
    }
done:
    return st;
}

/* ---- the form ---- */

static const char *lacks(const cJSON *row, struct at_form_unused *unused)
{
    struct at_argilla record;
    struct learnt learnt = { .why_not = NULL };

    if (at_argilla_read(&record, row) != AT_OK)
        return NULL; /* take() says why */
    unused->n_drafts += record.n_drafts;
    unused->n_discarded += record.n_discarded;
    if (judge(&learnt, &record) != AT_OK)
        learnt.why_not = NULL;
    at_argilla_release(&record);
    return learnt.why_not;
}

static cJSON *message_of(const char *role, const char *content)
{
    cJSON *m = cJSON_CreateObject();

    cJSON_AddStringToObject(m, "role", role);
    cJSON_AddStringToObject(m, "content", content);
    return m;
}

static AT_CHECKED make_prompt(cJSON **out, const struct learnt *l)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    const char *system = cJSON_GetStringValue(l->system);

    if (cJSON_IsArray(l->prompt))
        TRY(at_form_messages(out, l->prompt, "prompt"));
    else
        *out = cJSON_CreateArray();
    if (system && system[0])
        cJSON_InsertItemInArray(*out, 0, message_of("system", system));
    if (cJSON_IsArray(l->prompt))
        goto done;
    at_buf_puts(&text, l->prompt->valuestring);
    if (cJSON_IsString(l->context) && l->context->valuestring[0])
        at_buf_printf(&text, "\n\n%s", l->context->valuestring);
    TRY(at_buf_status(&text));
    at_form_add(*out, "user", text.n > 0 ? text.data : "");
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED take_argilla(cJSON *row)
{
    enum at_status st = AT_OK;
    struct at_argilla record = { .n_fields = 0 };
    struct learnt learnt;
    cJSON *prompt = NULL, *chosen = NULL, *rejected = NULL;

    TRY(at_argilla_read(&record, row));
    TRY(judge(&learnt, &record));
    if (learnt.why_not)
        FAIL(AT_DATA, "%s; `attune data convert` makes a file without such records and counts them",
             learnt.why_not);
    TRY(make_prompt(&prompt, &learnt));
    chosen = at_form_list("assistant", learnt.chosen);
    rejected = learnt.rejected ? at_form_list("assistant", learnt.rejected) : NULL;
    at_argilla_drop(row);
    at_form_set(row, "prompt", prompt);
    at_form_set(row, rejected ? "chosen" : "completion", chosen);
    if (rejected)
        at_form_set(row, "rejected", rejected);
    prompt = NULL;
done:
    cJSON_Delete(prompt);
    at_argilla_release(&record);
    return st;
}

const struct at_form at_form_argilla = {
    .name = "argilla",
    .what = "fields and responses of Argilla's records, or its columns question.responses",
    .is = at_argilla_is,
    .lacks = lacks,
    .take = take_argilla,
};
