#include "report_parts.h"

#include <math.h>

#define PERCENT .unit = "%", .scale = 100
const struct chart charts[N_CHARTS] = {
    { .id = "loss",
      .title = "Loss",
      .unit = "nats",
      .help = "what the training lowers; lower is better",
      .series = { { "loss", "training" }, { "eval_loss", "held out" } } },
    { .id = "margin",
      .title = "Margin",
      .unit = "reward",
      .help = "how much more the chosen reply has gained than the rejected one; higher is better",
      .series = { { "rewards/margins", "training" },
                  { "eval_rewards/margins", "held out" },
                  { "margin", "training (reward model)" },
                  { "eval_margin", "held out (reward model)" } } },
    { .id = "accuracy",
      .title = "Accuracy",
      .help = "pairs in which the chosen reply comes first; higher is better",
      PERCENT,
      .series = { { "rewards/accuracies", "training, gained more" },
                  { "eval_rewards/accuracies", "held out, gained more" },
                  { "eval_logps/accuracies", "held out, likelier a token" },
                  { "accuracy", "training (reward model)" },
                  { "eval_accuracy", "held out (reward model)" } } },
    { .id = "reward",
      .title = "Reward",
      .unit = "mean of the samples",
      .help = "what the samples were given; higher is better, unless the alarm says otherwise",
      .series = { { "reward", "samples" }, { "objective/scores", "samples, of pairs" } } },
    { .id = "kl",
      .title = "Distance",
      .unit = "KL, nats a token",
      .help = "how far the samples are from what the model said before",
      .series = { { "kl", "as the loss has it" }, { "drift/kl", "exact" } } },
    { .id = "frontier",
      .title = "Reward against distance",
      .unit = "mean of the samples",
      .help = "what a step away from the start brought; flat at the end: distance without gain",
      .by = "KL, nats a token",
      .x = { "drift/kl", "kl" },
      .series = { { "reward", "samples" }, { "objective/scores", "samples, of pairs" } } },
    { .id = "chosen",
      .title = "Chosen replies",
      .unit = "log-prob of a reply, nats",
      .help = "should not fall much: the model would unlearn what it is to say",
      .series = { { "logps/chosen", "training" }, { "eval_logps/chosen", "held out" } } },
    { .id = "rejected",
      .title = "Rejected replies",
      .unit = "log-prob of a reply, nats",
      .help = "falls when the model leaves the old tone",
      .series = { { "logps/rejected", "training" }, { "eval_logps/rejected", "held out" } } },
    { .id = "gradient",
      .title = "Gradient norm",
      .unit = "before clipping",
      .help = "how hard a step pulls; spikes are trouble",
      .series = { { "grad_norm", "training" } } },
    { .id = "rate",
      .title = "Learning rate",
      .unit = "a step",
      .help = "how far a step goes, by plan",
      .series = { { "learning_rate", "training" } } },
    { .id = "drift",
      .look = 1,
      .title = "Drift",
      .unit = "KL, nats a token",
      .help = "how far the model has moved from where it began",
      .series = { { "eval_drift/kl", "held out" } } },
    { .id = "lengths",
      .look = 1,
      .title = "Margin by length of the chosen reply",
      .unit = "reward",
      .help = "lines that lie together: the style was learnt; apart: the length was",
      .series = { { "eval_margins/len_32", "up to 32 tokens" },
                  { "eval_margins/len_128", "33 to 128" },
                  { "eval_margins/len_512", "129 to 512" },
                  { "eval_margins/len_more", "more" } } },
    { .id = "tokens",
      .title = "Tokens guessed right",
      .help = "the token of the text was the model's first choice",
      PERCENT,
      .series = { { "mean_token_accuracy", "training" },
                  { "eval_mean_token_accuracy", "held out" } } },
};

static AT_CHECKED push(struct curve *c, double x, double y)
{
    enum at_status st = AT_OK;

    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 64;
        TRY(at_realloc(&c->points, c->capacity, capacity, sizeof *c->points));
        c->capacity = capacity;
    }
    c->points[c->n++] = (struct curve_point){ x, y };
done:
    return st;
}

/* The metric that x is, where it is none of the steps; false: the line has it not. */
static bool x_of(double *x, const struct chart *chart, const cJSON *line)
{
    for (size_t i = 0; i < AT_COUNT(chart->x) && chart->x[i]; i++) {
        const cJSON *value = at_json_find(line, chart->x[i]);
        if (cJSON_IsNumber(value)) {
            *x = value->valuedouble;
            return true;
        }
    }
    return !chart->x[0];
}

static enum at_status take_line(void *context, const cJSON *line, const char *name)
{
    enum at_status st = AT_OK;
    struct curves *c = context;
    double step = 0;

    if (!at_json_find(line, "step"))
        FAIL(AT_DATA, "%s: \"step\" is missing; it is no metrics.jsonl", name);
    TRY(at_json_get_double(&step, line, "step", name));
    for (size_t i = 0; i < N_CHARTS; i++)
        for (size_t k = 0; k < CHART_SERIES && charts[i].series[k].metric; k++) {
            const cJSON *value = at_json_find(line, charts[i].series[k].metric);
            const double scale = charts[i].scale > 0 ? charts[i].scale : 1;
            double x = step;
            if (cJSON_IsNumber(value) && x_of(&x, &charts[i], line))
                TRY(push(&c->of[i][k], x, scale * value->valuedouble));
        }
done:
    return st;
}

void curve_thin(struct curve *c, size_t most)
{
    const size_t parts = (most - 2) / 2, inner = c->n > 2 ? c->n - 2 : 0;
    size_t m = 1;

    AT_REQUIRE(most >= 4);
    if (c->n <= most)
        return;
    for (size_t p = 0; p < parts; p++) {
        const size_t begin = 1 + p * inner / parts, end = 1 + (p + 1) * inner / parts;
        size_t low = begin, high = begin;
        for (size_t i = begin; i < end; i++) {
            low = c->points[i].y < c->points[low].y ? i : low;
            high = c->points[i].y > c->points[high].y ? i : high;
        }
        const struct curve_point first = c->points[low < high ? low : high];
        const struct curve_point second = c->points[low < high ? high : low];
        c->points[m++] = first;
        if (low != high)
            c->points[m++] = second;
    }
    c->points[m++] = c->points[c->n - 1];
    c->n = m;
}

AT_CHECKED curves_read(struct curves *out, const char *path)
{
    enum at_status st = AT_OK;

    TRY(report_lines(path, take_line, out));
    for (size_t i = 0; i < N_CHARTS; i++)
        for (size_t k = 0; k < CHART_SERIES; k++)
            curve_thin(&out->of[i][k], CURVE_POINTS);
done:
    return st;
}

void curves_release(struct curves *c)
{
    for (size_t i = 0; i < N_CHARTS; i++)
        for (size_t k = 0; k < CHART_SERIES; k++)
            at_free(&c->of[i][k].points);
}
