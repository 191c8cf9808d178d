/* What a reply must be, as data says it: {"contains_any": ["Paris"]}. A rule has one key:
 *   contains_any  the reply contains one of the strings, in any case
 *   excludes_any  it contains none of them, in any case: prohibited words
 *   json_schema   it is JSON and fits the schema (keywords: schema_words in rule.c)
 *   language      most of it is clearly in that language ("German", "Japanese", ...:
 *                 at_lint_language_name()); of a few words nothing is clear
 *   max_words     it has at most so many words (between blanks)
 *   min_words     it has at least so many
 *   regex         the pattern (PCRE2) is found in it */
#ifndef AT_RULE_H
#define AT_RULE_H

#include "json.h"

struct at_rule;
/* `name`: where the rule stands, for messages. Unknown keys, patterns and keywords of schemas that
 * are not checked are AT_DATA. Borrows from
 * `json` and `name`. */
AT_CHECKED at_rule_open(struct at_rule **out, const cJSON *json, const char *name);
/* AT_DATA when a pattern takes too long, and when the reply is no UTF-8. */
AT_CHECKED at_rule_check(bool *passed, const struct at_rule *rule, const char *reply);
void at_rule_close(struct at_rule **rule);
/* Whether a key is one of a rule's. */
bool at_rule_is_kind(const char *key);
/* The kind that a mistyped one is nearest to, at most 3 letters away; or NULL. */
const char *at_rule_suggest(const char *key);

/* Whether a value fits a schema that at_schema_check() has seen: JSON Schema 2020-12, of it these
 * keywords: additionalProperties (true, false), const, enum, items, maxItems, maxLength, maximum,
 * minItems, minLength, minimum, properties, required, type; title, description and $schema say
 * nothing. */
bool at_schema_fits(const cJSON *schema, const cJSON *value);
/* AT_DATA, naming the keyword, for what is not checked. */
AT_CHECKED at_schema_check(const cJSON *schema, const char *name);

#endif
