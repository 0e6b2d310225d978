/* Applications: WebAssembly modules and signed bundles (.mpk). Threads, errors and pointers as
 * node.h says. */
#ifndef CALIMERO_APP_H
#define CALIMERO_APP_H

#include "calimero/node.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cal_app_service {
    const char *name;
    cal_blob_id bytecode;
} cal_app_service;

typedef struct cal_app_info {
    cal_application_id id;
    cal_blob_id bytecode; /* the stored bundle or module */
    uint64_t size;        /* bytes */
    const char *source;   /* file:// or https:// URL */
    const uint8_t *metadata;
    size_t metadata_len;
    const char *signer_id; /* did:key; NULL: a raw module */
    const char *package;
    const char *version; /* NULL: none */
    const cal_app_service *services;
    size_t service_count;
} cal_app_info;

typedef void (*cal_app_done)(void *user, const cal_error *err, const cal_application_id *id);

typedef struct cal_install_options {
    const uint8_t *metadata;          /* raw modules only; bundles bring their own */
    size_t metadata_len;              /* at most 64 KiB */
    const char *package;              /* NULL: "unknown"; raw modules only */
    const char *version;              /* NULL: "0.0.0"; raw modules only */
    const cal_blob_id *expected_hash; /* URL installs: the blob id that must result; NULL: any */
    void (*progress)(void *user, uint64_t done_bytes,
                     uint64_t total_bytes); /* on a worker; total 0: unknown; NULL allowed */
    void *progress_user;
} cal_install_options;

/* `path`: absolute, without "..". A name ending in .mpk is a bundle, anything else a raw module.
 * Compiles it too. */
void cal_install_file(cal_node *node, const char *path, const cal_install_options *options,
                      cal_app_done done, void *user);
int cal_install_file_wait(cal_node *node, const char *path, const cal_install_options *options,
                          cal_application_id *ret_id, cal_error *err);
/* `url`: http or https; private and loopback hosts are refused, also on redirects. */
void cal_install_url(cal_node *node, const char *url, const cal_install_options *options,
                     cal_app_done done, void *user);
/* CAL_ESTATE while a context runs it. */
void cal_uninstall(cal_node *node, const cal_application_id *id, cal_simple_done done, void *user);

int cal_app_get(cal_node *node, const cal_application_id *id,
                void (*visit)(void *user, const cal_app_info *info),
                void *user); /* CAL_ENOTFOUND */
int cal_app_each(cal_node *node, void (*visit)(void *user, const cal_app_info *info), void *user);
/* Installed versions of one application, newest first. CAL_ENOTFOUND. */
int cal_app_versions(cal_node *node, const cal_application_id *id,
                     void (*visit)(void *user, const char *version, const cal_blob_id *blob,
                                   uint64_t size, const char *package),
                     void *user);
/* The ABI manifest as JSON. `service` NULL: the only one. CAL_ENOTFOUND (application, blob or no
 * ABI), CAL_EINVAL (several services, none named; unknown service), CAL_EVERSION (schema). Reads
 * and perhaps unpacks the bundle on a worker. */
typedef void (*cal_app_abi_done)(void *user, const cal_error *err, const char *abi_json,
                                 size_t len);
void cal_app_abi(cal_node *node, const cal_application_id *id, const char *service,
                 cal_app_abi_done done, void *user);

#ifdef __cplusplus
}
#endif
#endif
