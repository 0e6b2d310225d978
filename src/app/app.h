/* Applications: bundles (.mpk), their signatures, the embedded ABI, the registry of what is
 * installed, and installing from a file or a URL. Protocol: runtime-abi.md 1, 22, 24-26;
 * http-api.md 1, 5.1; traps.md 1, 2.
 *
 * What is installed is never trusted again: code is taken out of the stored bundle at each load,
 * under the manifest's signature and the artifact's digest. Everything here may block (disk,
 * network, gunzip) and belongs on a worker thread, except the functions marked "pure". No global
 * state; objects belong to one thread at a time.
 *
 * Stricter than the reference, on bytes that no honest tool makes: small-order signing keys (traps
 * 2), repeated JSON keys in a manifest or an ABI, archive entries that are links or devices or
 * whose path leaves the archive. */
#ifndef CAL_APP_H
#define CAL_APP_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "codec/text.h"
#include "crypto/crypto.h"
#include "os/os.h"
#include "store/store.h"

/* The release line of the reference whose formats and guest interface this node speaks; a
 * manifest's minRuntimeVersion must not be greater (semver order). */
#define CAL_APP_RUNTIME_VERSION "0.11.0-rc.25"
#define CAL_APP_DEFAULT_PACKAGE "unknown" /* of a raw module installed without one */
#define CAL_APP_DEFAULT_VERSION "0.0.0"

enum {
    CAL_BUNDLE_MANIFEST_MAX = 1024 * 1024, /* bytes of manifest.json */
    CAL_BUNDLE_SCAN_MAX =
        8 * 1024 * 1024, /* decompressed bytes before the manifest must have ended */
    CAL_BUNDLE_UNPACKED_MAX = 512 * 1024 * 1024, /* decompressed bytes in all */
    CAL_BUNDLE_SERVICES_MAX = 256,
    CAL_BUNDLE_ENTRIES_MAX = 65536,
    CAL_APP_MODULE_MAX =
        64 * 1024 *
        1024, /* bytes of one module, debug sections included (the vm counts without them) */
    CAL_ABI_SECTION_MAX = 4 * 1024 * 1024,
    CAL_APP_PACKAGE_MAX = 128,
    CAL_APP_VERSION_MAX = 64,
    CAL_APP_SERVICE_NAME_MAX = 128,
    CAL_APP_URL_MAX = 2048,
    CAL_APP_PATH_MAX = 4096,
    CAL_APP_REDIRECTS_MAX = 10,
    CAL_APP_CONNECT_TIMEOUT_MS = 15000,
    CAL_APP_TOTAL_TIMEOUT_MS = 300000,
};

/* --- What the node lends: its blob store. Handles are the implementation's, freed by finish, abort
 * and close. */
typedef struct cal_app_blobs {
    void *user;
    int (*create)(void *user, void **ret_writer, cal_error *err);
    int (*write)(void *user, void *writer, cal_slice bytes, cal_error *err);
    /* Durable once it returns. Consumes the writer, also when it fails. */
    int (*finish)(void *user, void *writer, cal_blob_id *ret_id, cal_error *err);
    void (*abort)(void *user, void *writer);
    int (*open)(void *user, const cal_blob_id *id, void **ret_reader, uint64_t *ret_size,
                cal_error *err); /* CAL_ENOTFOUND */
    int64_t (*read)(void *user, void *reader, uint8_t *ret_bytes,
                    size_t len); /* as much as there is; 0 at the end; < 0 CAL_E* */
    void (*close)(void *user, void *reader);
    /* Called for what a refused installation had stored and what was not there before it. NULL: it
     * stays. */
    void (*remove)(void *user, const cal_blob_id *id);
} cal_app_blobs;

/* Bytes that can be read from the start more than once: an archive is walked for its manifest, then
 * for its artifacts. */
typedef struct cal_app_input {
    void *user;
    int (*rewind)(void *user);
    int64_t (*read)(void *user, uint8_t *ret_bytes, size_t len); /* as in cal_app_blobs */
} cal_app_input;

/* An input over bytes in memory; `state` keeps the position and must live as long as the input. */
typedef struct cal_app_memory {
    cal_slice bytes;
    size_t at;
} cal_app_memory;
cal_app_input cal_app_input_memory(cal_app_memory *state, cal_slice bytes);

/* --- Manifests (section 25). Pure. */
typedef struct cal_manifest cal_manifest; /* immutable once parsed */

typedef struct cal_manifest_artifact {
    const char *path, *hash; /* hash: hex SHA-256 as written */
    uint64_t size;           /* informative: not compared */
} cal_manifest_artifact;

/* One wasm: a named service, or with name NULL the top-level wasm of a bundle without services. */
typedef struct cal_manifest_service {
    const char *name;
    cal_manifest_artifact wasm;
    bool has_abi;
    cal_manifest_artifact abi;
} cal_manifest_service;

/* Parses and checks all of section 25 but the signature and whether it runs here. CAL_EDECODE,
 * CAL_EINVAL (a field is unfit), CAL_ELIMIT. */
int cal_manifest_parse(cal_slice json, cal_manifest **ret_manifest, cal_error *err);
/* CAL_EVERSION when it needs a newer runtime than CAL_APP_RUNTIME_VERSION. */
int cal_manifest_check_runtime(const cal_manifest *manifest, cal_error *err);
void cal_manifest_free(cal_manifest *manifest); /* NULL allowed */
const char *cal_manifest_package(const cal_manifest *manifest);
const char *cal_manifest_app_version(const cal_manifest *manifest);
const char *cal_manifest_min_runtime_version(const cal_manifest *manifest);
const char *
cal_manifest_signer_id(const cal_manifest *manifest); /* as declared; NULL when absent */
/* The wasm artifacts: the services when there are any, otherwise the top-level wasm alone; possibly
 * none. */
size_t cal_manifest_services(const cal_manifest *manifest,
                             const cal_manifest_service **ret_services);
/* NULL for no such service. name NULL: the top-level wasm, also of a manifest that has services. */
const cal_manifest_service *cal_manifest_service_named(const cal_manifest *manifest,
                                                       const char *name);
/* The flat JSON kept as the application's metadata. Appends. */
int cal_manifest_metadata(const cal_manifest *manifest, cal_buffer *ret_json);

/* Verifies the signature and that signerId is the key's. CAL_EVERIFY with the reason. ret_hash (may
 * be NULL): the SHA-256 that was signed. */
int cal_manifest_verify(const cal_manifest *manifest, uint8_t ret_hash[CAL_HASH_SIZE],
                        cal_error *err);
/* Sets signerId and signature, replacing what was there; appends compact JSON. */
int cal_manifest_sign(cal_slice json, const cal_secret *seed, cal_buffer *ret_json, cal_error *err);

/* Semver order, build metadata ignored. CAL_EDECODE when the text is not a version. */
int cal_version_compare(const char *a, const char *b, int *ret_order);

/* --- Reading bundles. */
typedef struct cal_bundle cal_bundle; /* its manifest's signature has been verified */

/* Whether the bytes are a gzip stream (a bundle), judged by the first two. Anything else is a raw
 * module. Pure. */
bool cal_bundle_looks_like(cal_slice head);

/* Finds the manifest within the scan limit, verifies it and checks that it runs here. The input
 * must outlive the bundle. CAL_EDECODE (no archive, no manifest), CAL_ELIMIT, CAL_EVERIFY,
 * CAL_EVERSION, CAL_EINVAL, or what the input answered. */
int cal_bundle_open(const cal_app_input *input, cal_bundle **ret_bundle, cal_error *err);
void cal_bundle_free(cal_bundle *bundle); /* NULL allowed */
const cal_manifest *cal_bundle_manifest(const cal_bundle *bundle);

/* Walks the whole archive once: exactly one manifest, every declared wasm present once and of the
 * declared digest, nothing beyond the limits. `wasm` is called for each service in archive order
 * with its digest-checked bytes, valid during the call; non-zero ends the walk with that code. */
typedef int (*cal_bundle_wasm)(void *user, const cal_manifest_service *service, cal_slice wasm,
                               cal_error *err);
int cal_bundle_check(cal_bundle *bundle, cal_bundle_wasm wasm, void *user, cal_error *err);

/* One wasm, digest-checked, after the same walk. service NULL: the top-level wasm. CAL_ENOTFOUND
 * for an unknown service. */
int cal_bundle_read_wasm(cal_bundle *bundle, const char *service, cal_buffer *ret_wasm,
                         cal_error *err);

/* --- Writing bundles (for meroctl). The same input gives the same bytes: entries sorted after the
 * manifest, no times. */
typedef struct cal_bundle_file {
    const char *path; /* inside the archive */
    cal_slice content;
} cal_bundle_file;

/* What `cal_manifest_make` writes; NULL or 0 leaves a field out. */
typedef struct cal_manifest_options {
    const char *package, *app_version; /* required */
    const char *min_runtime_version;   /* NULL: CAL_APP_RUNTIME_VERSION */
    const char *name, *description, *author, *license;
    const char *wasm_path;            /* a single module ... */
    const char *const *service_names; /* ... or services, with the path of each wasm */
    const char *const *service_paths;
    size_t service_count;
} cal_manifest_options;
int cal_manifest_make(const cal_manifest_options *options, cal_buffer *ret_json, cal_error *err);

/* Packs the manifest (its artifacts' hash and size are filled in from the files) and the files, all
 * of which the manifest must name. seed NULL: left unsigned, for cal_bundle_sign later. Appends. */
int cal_bundle_pack(cal_slice manifest_json, const cal_bundle_file *files, size_t count,
                    const cal_secret *seed, cal_buffer *ret_archive, cal_error *err);
/* The same from a folder that holds manifest.json and the files it names. */
int cal_bundle_pack_folder(const cal_os *os, const char *folder, const cal_secret *seed,
                           cal_buffer *ret_archive, cal_error *err);
/* Signs (again) a packed bundle: same files, new signerId and signature. Appends. */
int cal_bundle_sign(cal_slice archive, const cal_secret *seed, cal_buffer *ret_archive,
                    cal_error *err);

/* Signing keys: a file of 64 hex digits and a newline, mode 0600. */
int cal_bundle_key_generate(const cal_os *os, const char *path, char ret_signer_id[CAL_DID_KEY_MAX],
                            cal_error *err); /* CAL_EEXISTS: never overwrites */
int cal_bundle_key_read(const cal_os *os, const char *path, cal_secret *ret_seed, cal_error *err);
void cal_bundle_dev_key(
    cal_secret *ret_seed); /* known to everybody: only where the user asked for it */

/* --- The ABI embedded in a module (section 24). Pure. */
typedef enum cal_abi_status {
    CAL_ABI_ABSENT,      /* no section, or none that is valid */
    CAL_ABI_UNSUPPORTED, /* of a newer major: only `schema_version` is set */
    CAL_ABI_SUPPORTED,
} cal_abi_status;

typedef enum cal_abi_intent {
    CAL_INTENT_UNSPECIFIED,
    CAL_INTENT_READ_ONLY,
    CAL_INTENT_MUTATING
} cal_abi_intent;

typedef struct cal_abi_method {
    const char *name;
    cal_abi_intent intent;
    bool xcall_callable;
    bool xcall_same_app; /* xcall_callers: only contexts of the same application; otherwise any of
                            the namespace */
} cal_abi_method;

typedef struct cal_abi_migration {
    const char *method;
    uint32_t from_version;
} cal_abi_migration;

typedef struct cal_abi {
    cal_abi_status status;
    const char *schema_version; /* NULL when absent */
    cal_slice json; /* the section as it stands, for serving; valid JSON without repeated keys */
    const cal_abi_method *methods; /* sorted by name */
    size_t method_count;
    const cal_abi_migration *migrations;
    size_t migration_count;
    uint32_t state_version; /* 1 when not given */
    bool gates_xcalls; /* some method is xcall_callable: then only those may be reached by an xcall
                        */
    struct cal_abi_memory *owner;
} cal_abi;

/* Always fills ret_abi, whatever the bytes; CAL_ENOMEM is the only failure. Copies what it keeps.
 */
int cal_abi_read(cal_slice wasm, cal_abi *ret_abi);
/* The same for the JSON alone. ret_reason (may be NULL, CAL_ERROR_MESSAGE_MAX bytes): why it is not
 * usable. */
int cal_abi_parse(cal_slice json, cal_abi *ret_abi, char *ret_reason);
void cal_abi_deinit(cal_abi *abi);
const cal_abi_method *cal_abi_find(const cal_abi *abi,
                                   const char *method); /* NULL when not declared */

/* --- Application ids (section 26). Pure. */
void cal_application_id_bundle(const char *package, const char *signer_id,
                               cal_application_id *ret_id);
void cal_application_id_raw(const cal_blob_id *bytecode, uint64_t size, const char *source,
                            cal_slice metadata, cal_application_id *ret_id);

/* --- The registry: column APPLICATION, key id -> record of what was installed last under the id,
 * and key id || bytecode blob id -> one row for each version still kept. Writers fill a batch that
 * the node commits; two installs of one application may run at once, since none reads what the
 * other writes. Strings and slices live in the arena. */
typedef struct cal_application_service {
    const char *name;
    cal_blob_id bytecode;
} cal_application_service;

typedef struct cal_application {
    cal_application_id id;
    cal_blob_id bytecode; /* the whole bundle, or the raw module */
    uint64_t size;        /* of that blob */
    const char *source;   /* file:///... or https://... */
    cal_slice metadata;
    const char *signer_id; /* "" for a raw module */
    const char *package, *version;
    uint32_t
        state_version; /* of the ABI, the greatest of all services; 0: no ABI, or a raw module */
    bool bundle;
    const cal_application_service *services; /* named services only */
    size_t service_count;
} cal_application;

typedef struct cal_application_version {
    const char *version, *package;
    cal_blob_id bytecode;
    uint64_t size;
} cal_application_version;

int cal_application_encode(const cal_application *application,
                           cal_buffer *ret_bytes); /* appends; pure */
int cal_application_decode(cal_arena *arena, const cal_application_id *id, cal_slice bytes,
                           cal_application *ret_application); /* CAL_ECORRUPT; pure */
int cal_application_put(cal_batch *batch,
                        const cal_application *application); /* record and version row */

int cal_application_get(cal_snapshot *snapshot, const cal_application_id *id, cal_arena *arena,
                        cal_application *ret_application); /* CAL_ENOTFOUND */
int cal_application_list(cal_snapshot *snapshot, cal_arena *arena,
                         cal_application **ret_applications, size_t *ret_count);
/* Newest first. CAL_ENOTFOUND when the application is not installed. */
int cal_application_versions(cal_snapshot *snapshot, const cal_application_id *id, cal_arena *arena,
                             cal_application_version **ret_versions, size_t *ret_count);
/* Distinct package names, sorted. */
int cal_package_list(cal_snapshot *snapshot, cal_arena *arena, const char ***ret_packages,
                     size_t *ret_count);
/* Versions of a package, all that are kept under all its signers, newest first, each once. An
 * unknown package has none. */
int cal_package_versions(cal_snapshot *snapshot, const char *package, cal_arena *arena,
                         const char ***ret_versions, size_t *ret_count);
/* The application of the package whose last installed version is the greatest. CAL_ENOTFOUND. */
int cal_package_latest(cal_snapshot *snapshot, const char *package, cal_arena *arena,
                       cal_application *ret_application);
/* Whether some installed version or service is this blob: it must then not be deleted. */
int cal_application_uses_blob(cal_snapshot *snapshot, const cal_blob_id *blob, bool *ret_uses);
/* Calls `blob` for every blob that the registry names (a collector's roots); non-zero ends it with
 * that code. */
int cal_application_each_blob(cal_snapshot *snapshot,
                              int (*blob)(void *user, const cal_blob_id *id), void *user);

/* Writes into ret_user what uses the application ("context 5Z1w...") and returns true, or returns
 * false. */
typedef bool (*cal_application_in_use)(void *user, const cal_application_id *id, char *ret_user,
                                       size_t max);
/* Removes record and versions. CAL_ENOTFOUND, CAL_ESTATE when in use (in_use NULL: nothing uses
 * it). */
int cal_application_uninstall(cal_snapshot *snapshot, const cal_application_id *id,
                              cal_application_in_use in_use, void *user, cal_batch *batch,
                              cal_error *err);

/* --- Code: the module of a service, out of a stored blob, with signature and digest verified again
 * (section 25, end). */
/* CAL_ENOTFOUND: no such blob or service; ret_wasm gets the module (appends; its max bounds it). A
 * blob that is no bundle is a raw module, whatever the service. */
int cal_app_load_code(const cal_app_blobs *blobs, const cal_blob_id *bytecode, const char *service,
                      cal_buffer *ret_wasm, cal_error *err);
/* Which service an ABI request means: NULL picks the only one. CAL_EINVAL names what there is.
 * *ret_service may be NULL. */
int cal_app_pick_service(const cal_application *application, const char *requested,
                         const char **ret_service, cal_error *err);

/* --- Installing. The blobs are stored, the rows are put into the batch; the node commits it and
 * then answers, or takes the blobs back when it cannot use them after all. */

/* The blobs that a run stored and that were not there before. */
typedef struct cal_app_stored {
    cal_blob_id ids[CAL_BUNDLE_SERVICES_MAX + 1];
    size_t count;
} cal_app_stored;

typedef struct cal_app_installer {
    const cal_os *os;
    const cal_app_blobs *blobs;
    /* Bytes taken so far; total 0 when unknown. Non-zero cancels with CAL_ECANCELED. NULL allowed.
     */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
    /* Where a run that succeeds adds what it stored, for cal_app_install_undo; NULL: nobody asks.
     * With it an installer serves one run. */
    cal_app_stored *stored;
} cal_app_installer;

typedef struct cal_app_install {
    const char *path; /* a file: absolute, without `..`; `.mpk` is a bundle, anything else a raw
                         module ... */
    const char *url;  /* ... or a URL, a bundle when its path ends in .mpk. Exactly one is set */
    const char
        *root; /* MEROD_DEV_INSTALL_ROOT: the file must lie in it; NULL: anywhere. CAL_EDENIED */
    const uint8_t
        *expected_hash; /* URL only: SHA-256 of the file, 32 bytes; NULL: any. CAL_EVERIFY */
    cal_slice metadata; /* of a raw module, at most CAL_APP_METADATA_MAX */
    const char *package, *version; /* of a raw module from a file; NULL: the defaults */
} cal_app_install;

/* Blocking. CAL_EINVAL (path, URL, not a module, a host that is not public), CAL_EDENIED (outside
 * the root), CAL_ENOTFOUND, CAL_ELIMIT, CAL_EVERIFY, CAL_EDECODE, CAL_EVERSION, CAL_EUNREACHABLE,
 * CAL_ETIMEOUT, CAL_ECANCELED, CAL_EIO, CAL_EFULL. On failure the batch is as it was and blobs that
 * were not there before are removed. */
int cal_app_install_run(const cal_app_installer *installer, const cal_app_install *what,
                        cal_batch *batch, cal_arena *arena, cal_application *ret_application,
                        cal_error *err);
/* The same for a bundle that is already a blob (a peer sent it). */
int cal_app_install_blob(const cal_app_installer *installer, const cal_blob_id *blob,
                         const char *source, cal_batch *batch, cal_arena *arena,
                         cal_application *ret_application, cal_error *err);

/* After a run that succeeded, when its code does not compile or its batch cannot be committed:
 * removes the blobs in `stored`, except those that an application in the snapshot names: an
 * installation of the same file beside this one may have succeeded (NULL: none could). The batch
 * is the caller's. */
void cal_app_install_undo(const cal_app_installer *installer, cal_snapshot *snapshot);

/* Whether a node may fetch from the address: globally routable unicast. Pure. */
bool cal_app_address_public(const cal_os_address *address);

#endif
