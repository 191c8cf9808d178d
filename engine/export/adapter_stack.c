#include "export.h"

static void multiply(struct at_adapter *a, double scale)
{
    a->alpha *= scale;
    for (size_t k = 0; k < a->n_modules; k++) {
        a->alphas[k] *= scale;
        a->lora[k].scale = (float)(a->lora[k].scale * scale);
    }
}

AT_CHECKED at_export_open(struct at_export *out, const struct at_model_config *config,
                          const struct at_export_params *p)
{
    enum at_status st = AT_OK;

    AT_REQUIRE(p->n > 0);
    *out = (struct at_export){ .config = config };
    if (config->value_head)
        FAIL(AT_DATA, "the base is a reward model (score.weight): its adapters stay with Attune "
                      "and PEFT");
    TRY(at_arena_alloc(&out->arena, &out->adapters, p->n, sizeof *out->adapters));
    TRY(at_arena_alloc(&out->arena, &out->stack, p->n, sizeof *out->stack));
    for (size_t i = 0; i < p->n; i++) {
        struct at_adapter *a = &out->adapters[i];
        TRY(at_adapter_plan_load(a, config, p->dirs[i], NULL, NULL));
        out->stack[out->n++] = a;
        TRY(at_adapter_check_scale(a, i, p->scale));
        multiply(a, p->scale);
    }
    TRY(at_adapter_check_stack(out->stack, out->n));
done:
    if (st != AT_OK)
        at_export_close(out);
    return st;
}

void at_export_close(struct at_export *stack)
{
    for (size_t i = 0; i < stack->n; i++)
        at_adapter_release(&stack->adapters[i]);
    at_arena_release(&stack->arena);
    *stack = (struct at_export){ .n = 0 };
}

AT_CHECKED at_export_peft(const struct at_export *stack, const char *dir, const char *base_model)
{
    struct at_saved_module saved[AT_SAVED_COUNT] = { { NULL, NULL } };
    const struct at_source *top[AT_SAVED_COUNT] = { NULL }, *score = NULL;
    const struct at_adapter_record record = { .base_model = base_model, .saved = saved };

    at_adapter_top(top, &score, stack->stack, stack->n);
    for (uint32_t k = 0; k < AT_SAVED_COUNT; k++)
        saved[k].source = top[k];
    return at_adapter_save(dir, NULL, stack->config, stack->stack, stack->n, &record);
}
