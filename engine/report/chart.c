#include "report_parts.h"

#include <math.h>

/* The drawing, in units of the view box. */
enum { WIDTH = 360, HEIGHT = 200, LEFT = 54, RIGHT = 350, TOP = 10, BOTTOM = 164 };

struct range {
    double low, high, tick;
};

/* Round steps, about `n` of them: 1, 2 or 5 times a power of ten. */
static double tick_of(double span, int n)
{
    const double raw = span / n, power = pow(10, floor(log10(raw))), digit = raw / power;

    return (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10) * power;
}

/* From a tick to a tick, around all values. */
static struct range range_of(double low, double high, int n)
{
    struct range r;

    if (!(high > low)) { /* a flat line lies in the middle */
        const double room = low != 0 ? fabs(low) / 10 : 1;
        low -= room;
        high += room;
    }
    r.tick = tick_of(high - low, n);
    r.low = floor(low / r.tick + 1e-9) * r.tick;
    r.high = ceil(high / r.tick - 1e-9) * r.tick;
    return r;
}

static double place(double value, const struct range *r, double from, double to)
{
    return from + (value - r->low) / (r->high - r->low) * (to - from);
}

/* A tick's value without what rounding leaves of 0. */
static double tick_value(const struct range *r, int i)
{
    const double value = r->low + i * r->tick;

    return fabs(value) < r->tick * 1e-6 ? 0 : value;
}

static const char *x_name(const struct chart *chart)
{
    return chart->by ? chart->by : "step";
}

static void put_axes(struct at_buf *out, const struct chart *chart, const struct range *x,
                     const struct range *y)
{
    const int nx = (int)floor((x->high - x->low) / x->tick + 1e-9);
    const int ny = (int)lround((y->high - y->low) / y->tick);

    for (int i = 0; i <= ny; i++) {
        const double at = place(tick_value(y, i), y, BOTTOM, TOP);
        at_buf_printf(out,
                      "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                      "text-anchor=\"end\">%.5g</text>\n",
                      LEFT, at, RIGHT, LEFT - 6, at + 4, tick_value(y, i));
    }
    for (int i = 0; i <= nx; i++) {
        const double at = place(tick_value(x, i), x, LEFT, RIGHT);
        at_buf_printf(out,
                      "<path class=\"axis\" d=\"M%.1f %dv4\"/><text x=\"%.1f\" y=\"%d\" "
                      "text-anchor=\"middle\">%.6g</text>\n",
                      at, BOTTOM, at, BOTTOM + 17, tick_value(x, i));
    }
    at_buf_printf(out,
                  "<path class=\"axis\" d=\"M%d %dH%d\"/><text x=\"%d\" y=\"%d\" "
                  "text-anchor=\"middle\">%s</text>\n",
                  LEFT, BOTTOM, RIGHT, (LEFT + RIGHT) / 2, HEIGHT - 4, x_name(chart));
}

/* Shapes tell series apart without colour. */
static void put_marker(struct at_buf *out, size_t k, double x, double y)
{
    if (k == 1)
        at_buf_printf(out, "<circle class=\"m s1\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", x, y);
    else if (k == 2)
        at_buf_printf(out, "<path class=\"m s2\" d=\"M%.1f %.1fh6v6h-6z\"/>", x - 3, y - 3);
    else if (k == 3)
        at_buf_printf(out, "<path class=\"m s3\" d=\"M%.1f %.1fl3.5 6h-7z\"/>", x, y - 4);
    else if (k == 4)
        at_buf_printf(out, "<path class=\"m s4\" d=\"M%.1f %.1fl3.5 3.5l-3.5 3.5l-3.5 -3.5z\"/>", x,
                      y - 3.5);
}

static void put_series(struct at_buf *out, const struct curve *c, size_t k, const struct range *x,
                       const struct range *y)
{
    enum { MARKED = 30 }; /* more markers would hide the line */

    at_buf_printf(out, "<path class=\"s s%zu\" d=\"", k);
    for (size_t i = 0; i < c->n; i++)
        at_buf_printf(out, "%s%.1f %.1f", i ? "L" : "M", place(c->points[i].x, x, LEFT, RIGHT),
                      place(c->points[i].y, y, BOTTOM, TOP));
    at_buf_puts(out, "\"/>\n");
    for (size_t i = 0; i < c->n && c->n <= MARKED; i++)
        put_marker(out, k, place(c->points[i].x, x, LEFT, RIGHT),
                   place(c->points[i].y, y, BOTTOM, TOP));
}

/* What a series' line looks like, and what it is. */
static void put_key(struct at_buf *out, size_t k, const struct series *s)
{
    at_buf_printf(out,
                  "<span class=\"key\"><svg viewBox=\"0 0 28 10\" aria-hidden=\"true\"><path "
                  "class=\"s s%zu\" d=\"M0 5H28\"/>",
                  k);
    put_marker(out, k, 14, 5);
    at_buf_puts(out, "</svg>");
    html_text(out, s->label);
    at_buf_puts(out, "</span>");
}

AT_CHECKED chart_write(struct at_buf *out, const struct chart *chart, const struct curve *curves)
{
    struct range x, y;
    double low[2] = { INFINITY, INFINITY }, high[2] = { -INFINITY, -INFINITY };
    size_t n = 0;

    for (size_t k = 0; k < CHART_SERIES; k++)
        for (size_t i = 0; i < curves[k].n; i++, n++) {
            low[0] = fmin(low[0], curves[k].points[i].x);
            high[0] = fmax(high[0], curves[k].points[i].x);
            low[1] = fmin(low[1], curves[k].points[i].y);
            high[1] = fmax(high[1], curves[k].points[i].y);
        }
    if (n == 0)
        return AT_OK;
    x = range_of(fmin(low[0], 0), high[0], 5);
    x.high = fmax(high[0], x.low + x.tick); /* the last step is the end */
    y = range_of(low[1], high[1], 4);
    at_buf_printf(out, "<figure id=\"%s\"><figcaption><b>%s</b>, %s: %s<br>", chart->id,
                  chart->title, chart->unit, chart->help);
    for (size_t k = 0; k < CHART_SERIES; k++)
        if (curves[k].n > 0)
            put_key(out, chart->look + k, &chart->series[k]);
    at_buf_printf(out,
                  "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s by "
                  "%s\">\n",
                  WIDTH, HEIGHT, chart->title, x_name(chart));
    put_axes(out, chart, &x, &y);
    for (size_t k = 0; k < CHART_SERIES; k++)
        if (curves[k].n > 0)
            put_series(out, &curves[k], chart->look + k, &x, &y);
    at_buf_puts(out, "</svg></figure>\n");
    return at_buf_status(out);
}

void intervals_write(struct at_buf *out, const struct interval_bar *bars, size_t n)
{
    const int height = (int)n * 34 + 24;

    at_buf_printf(out,
                  "<svg viewBox=\"0 0 360 %d\" style=\"max-width:34rem\" role=\"img\" "
                  "aria-label=\"shares with 95 %% intervals\">\n",
                  height);
    for (int i = 0; i <= 4; i++)
        at_buf_printf(out,
                      "<path class=\"grid\" d=\"M%d 4V%d\"/><text x=\"%d\" y=\"%d\" "
                      "text-anchor=\"middle\">%d %%</text>\n",
                      20 + 80 * i, height - 18, 20 + 80 * i, height - 4, 25 * i);
    for (size_t i = 0; i < n; i++) {
        const double y = 34.0 * (double)i + 26, low = 20 + 320 * bars[i].low;
        const double high = 20 + 320 * bars[i].high;
        at_buf_printf(out, "<text x=\"20\" y=\"%.1f\">", y - 10);
        html_text(out, bars[i].label);
        at_buf_printf(out,
                      ": %.1f %% [%.1f, %.1f]</text><path class=\"s s0\" d=\"M%.1f %.1fH%.1fM%.1f "
                      "%.1fv8M%.1f %.1fv8\"/><circle class=\"m s0\" cx=\"%.1f\" cy=\"%.1f\" "
                      "r=\"3.5\"/>\n",
                      100 * bars[i].value, 100 * bars[i].low, 100 * bars[i].high, low, y, high, low,
                      y - 4, high, y - 4, 20 + 320 * bars[i].value, y);
    }
    at_buf_puts(out, "</svg>\n");
}
