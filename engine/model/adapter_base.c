/* Whether an adapter meets the weights that it was trained on. */
#include "adapter.h"

#include "json.h"
#include "os.h"

#include <string.h>

AT_CHECKED at_adapter_check_base(const char *dir, struct at_weights *weights)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    cJSON *run = NULL;
    char *path = NULL, here[65];
    const char *trained = NULL, *name = NULL;

    if (at_weights_lack_data(weights))
        goto done;
    TRY(at_path_join(&arena, &path, dir, "run.json"));
    if (!at_path_exists(path))
        goto done;
    TRY(at_json_load(&run, path));
    trained = cJSON_GetStringValue(at_json_find(at_json_find(run, "digests"), "model"));
    name = cJSON_GetStringValue(
        at_json_find(at_json_find(at_json_find(run, "config"), "model_name_or_path"), "value"));
    if (!trained)
        goto done;
    TRY(at_weights_digest(weights, here));
    if (strcmp(here, trained) != 0)
        at_warn("other_base",
                "%s was trained on %s, and the weights here are others (digest %.12s, recorded "
                "%.12s): the same model in another type is near it, another model is not",
                dir, name ? name : "another model", here, trained);
done:
    at_json_free(&run);
    at_arena_release(&arena);
    return st;
}
