/* Making application bundles (.mpk): a manifest and WebAssembly modules in one signed archive
 * (protocol runtime-abi.md 25).
 *
 * Work on files, blocking, any thread, no node needed. The same input gives the same bytes. Errors
 * as error.h says. */
#ifndef CALIMERO_BUNDLE_H
#define CALIMERO_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>

#include "calimero/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CAL_SIGNER_TEXT_MAX = 64 /* did:key:z6Mk... and its NUL */ };

/* Who signs. Both unset: nobody, and no node installs the bundle until it is signed. */
typedef struct cal_pack_signer {
    const char *key_file; /* as cal_pack_keygen writes it */
    bool dev_key;         /* the key that everybody knows: for trying things out only */
} cal_pack_signer;

typedef struct cal_pack_service {
    const char *name;
    const char *wasm_path;
} cal_pack_service;

/* Zero-initialise; NULL leaves a field of the manifest out. Either `folder`, or `package`,
 * `version` and the module(s). */
typedef struct cal_pack_options {
    const char *folder;              /* holds manifest.json and the files that it names */
    const char *package;             /* "com.example.app" */
    const char *version;             /* "1.2.3" */
    const char *min_runtime_version; /* NULL: this library's */
    const char *name, *description, *author, *license;
    const char *wasm_path;            /* one module ... */
    const cal_pack_service *services; /* ... or several */
    size_t service_count;
    cal_pack_signer signer;
    const char *output_path; /* written atomically */
} cal_pack_options;

/* CAL_EINVAL (the manifest), CAL_ENOTFOUND (a file), CAL_ELIMIT. */
int cal_pack_bundle(const cal_pack_options *options, cal_error *err);
/* Signs a bundle again; output_path may be the same file. */
int cal_pack_sign(const char *bundle_path, const cal_pack_signer *signer, const char *output_path,
                  cal_error *err);
/* Makes a signing key, mode 0600. CAL_EEXISTS: never overwrites. */
int cal_pack_keygen(const char *path, char ret_signer_id[CAL_SIGNER_TEXT_MAX], cal_error *err);

#ifdef __cplusplus
}
#endif
#endif
