/* A provider with one object in it: GET hello answers the greeting of the mount. */
#include "provider.h"

#include <stdlib.h>
#include <string.h>

typedef exports_sluice_provider_objects_failure_t failure_t;
typedef exports_sluice_provider_objects_info_t info_t;
typedef exports_sluice_provider_objects_object_t object_t;
typedef exports_sluice_provider_objects_page_t page_t;
typedef exports_sluice_provider_objects_entry_t entry_t;

static const char KEY[] = "hello";
static const uint64_t MODIFIED = 1700000000; /* seconds since 1970 */

/* What is returned is whether it was done; the result, or the failure, is in what was pointed to. Arguments are the plugin's to free, and
   what it answers is freed by the host. */
static bool fail(failure_t *failure, uint8_t tag) {
  failure->tag = tag;
  return false;
}

static void *allocated(size_t size) {
  void *at = malloc(size);
  if (at == NULL) __builtin_trap();
  return at;
}

/* As strcmp: strings of the interface have a length, and no zero at their end. */
static int compared(const char *text, const provider_string_t *with) {
  size_t length = strlen(text), least = length < with->len ? length : with->len;
  int order = least > 0 ? memcmp(text, with->ptr, least) : 0;
  return order != 0 ? order : (length > with->len) - (length < with->len);
}

static bool is_hello(provider_string_t *key) {
  bool is = compared(KEY, key) == 0;
  provider_string_free(key);
  return is;
}

/* Another tag whenever the bytes are others (FNV-1a). */
static void tag(const provider_list_u8_t *body, provider_string_t *tag) {
  uint32_t hash = 0x811c9dc5;
  char digits[8];
  for (size_t i = 0; i < body->len; i++) hash = (hash ^ body->ptr[i]) * 0x01000193;
  for (int i = 0; i < 8; i++) digits[i] = "0123456789abcdef"[hash >> (28 - 4 * i) & 15];
  provider_string_dup_n(tag, digits, sizeof digits);
}

static void greeting(object_t *object) {
  provider_string_t name, text;
  provider_string_set(&name, "greeting");
  if (!sluice_provider_settings_get(&name, &text)) provider_string_dup(&text, "Hello, World!");
  object->body.len = text.len + 1;
  object->body.ptr = allocated(object->body.len);
  if (text.len > 0) memcpy(object->body.ptr, text.ptr, text.len);
  object->body.ptr[text.len] = '\n';
  provider_string_free(&text);

  object->info.size = object->body.len;
  tag(&object->body, &object->info.etag);
  object->info.modified = MODIFIED;
  object->info.attributes.len = 1;
  object->info.attributes.ptr = allocated(sizeof *object->info.attributes.ptr);
  provider_string_dup(&object->info.attributes.ptr->f0, "content-type");
  provider_string_dup(&object->info.attributes.ptr->f1, "text/plain; charset=utf-8");
}

bool exports_sluice_provider_objects_head(provider_string_t *key, info_t *info, failure_t *failure) {
  object_t object;
  if (!is_hello(key)) return fail(failure, SLUICE_PROVIDER_TYPES_FAILURE_NOT_FOUND);
  greeting(&object);
  provider_list_u8_free(&object.body);
  *info = object.info;
  return true;
}

bool exports_sluice_provider_objects_get(provider_string_t *key, object_t *object, failure_t *failure) {
  if (!is_hello(key)) return fail(failure, SLUICE_PROVIDER_TYPES_FAILURE_NOT_FOUND);
  greeting(object);
  return true;
}

bool exports_sluice_provider_objects_put(provider_string_t *key, object_t *object, failure_t *failure) {
  provider_string_free(key);
  exports_sluice_provider_objects_object_free(object);
  return fail(failure, SLUICE_PROVIDER_TYPES_FAILURE_DENIED);
}

bool exports_sluice_provider_objects_delete(provider_string_t *key, provider_option_u64_t *size, failure_t *failure) {
  (void)size;
  provider_string_free(key);
  return fail(failure, SLUICE_PROVIDER_TYPES_FAILURE_DENIED);
}

bool exports_sluice_provider_objects_list(provider_string_t *prefix, provider_string_t *start, uint32_t limit, page_t *page,
                                          failure_t *failure) {
  (void)limit, (void)failure;
  bool below = prefix->len <= strlen(KEY) && (prefix->len == 0 || memcmp(KEY, prefix->ptr, prefix->len) == 0);
  bool wanted = below && compared(KEY, start) >= 0;
  provider_string_free(prefix);
  provider_string_free(start);
  *page = (page_t){0};
  if (wanted) {
    object_t object;
    greeting(&object);
    page->entries.len = 1;
    page->entries.ptr = allocated(sizeof(entry_t));
    entry_t *entry = page->entries.ptr;
    provider_string_dup(&entry->key, KEY);
    provider_string_dup_n(&entry->etag, (const char *)object.info.etag.ptr, object.info.etag.len);
    entry->size = object.info.size;
    entry->modified = object.info.modified;
    exports_sluice_provider_objects_object_free(&object);
  }
  return true;
}
