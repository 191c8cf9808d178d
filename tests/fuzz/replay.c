/* links: base */
/* Feeds files to a fuzz target, for builds without libFuzzer. Arguments are files and folders of
 * files; those that begin with '-' are libFuzzer's and left out. */
#include "fuzz.h"
#include "os.h"
#include <stdio.h>

static AT_CHECKED replay_file(size_t *n_files, const char *path)
{
    enum at_status st = AT_OK;
    struct at_map map = { .n = 0 };
    uint8_t *copy = NULL;

    TRY(at_map_open(&map, path));
    /* A copy of its very size, so that a sanitizer sees a read past the end. */
    TRY(at_alloc(&copy, map.n, 1));
    for (size_t i = 0; i < map.n; i++)
        copy[i] = map.data[i];
    LLVMFuzzerTestOneInput(copy, map.n);
    (*n_files)++;
done:
    at_free(&copy);
    at_map_close(&map);
    return st;
}

static AT_CHECKED replay(size_t *n_files, const char *path)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    char **names = NULL, *file = NULL;
    size_t n = 0;

    if (!at_path_is_dir(path)) {
        TRY(replay_file(n_files, path));
        goto done;
    }
    TRY(at_dir_list(&arena, &names, &n, path));
    for (size_t i = 0; i < n; i++) {
        TRY(at_path_join(&arena, &file, path, names[i]));
        TRY(replay_file(n_files, file));
    }
done:
    at_arena_release(&arena);
    return st;
}

int main(int n_args, char **args)
{
    enum at_status st = AT_OK;
    size_t n_files = 0;

    for (int i = 1; i < n_args && st == AT_OK; i++)
        if (args[i][0] != '-')
            st = replay(&n_files, args[i]);
    if (st != AT_OK) {
        fprintf(stderr, "%s\n", at_message());
        return 1;
    }
    if (n_files == 0) {
        fprintf(stderr, "no input: the corpus is empty\n");
        return 1;
    }
    printf("%zu inputs\n", n_files);
    return 0;
}
