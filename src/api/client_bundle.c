/* calimero/bundle.h: files in, a file out, over app/app.h. Any thread. */
#include <stdio.h>
#include <stdlib.h>

#include "app/app.h"
#include "base/error.h"
#include "calimero/bundle.h"

enum { ARCHIVE_MAX = CAL_BUNDLE_UNPACKED_MAX, SERVICES_MAX = CAL_BUNDLE_SERVICES_MAX };
_Static_assert((int)CAL_SIGNER_TEXT_MAX == (int)CAL_DID_KEY_MAX, "the public size is the module's");

/* *ret_seed is `seed`, or NULL when nobody signs. */
static int read_signer(const cal_pack_signer *signer, cal_secret *seed, const cal_secret **ret_seed,
                       cal_error *err) {
    *ret_seed = NULL;
    if (signer->key_file && signer->dev_key)
        return cal_fail(err, CAL_EINVAL, "a key file and the dev key exclude each other");
    if (signer->dev_key) cal_bundle_dev_key(seed);
    int error =
        signer->key_file ? cal_bundle_key_read(cal_os_posix(), signer->key_file, seed, err) : 0;
    if (error == 0 && (signer->key_file || signer->dev_key)) *ret_seed = seed;
    return error;
}

/* The modules in memory; their names in the archive are app.wasm, or NAME.wasm. */
typedef struct modules {
    cal_bundle_file files[SERVICES_MAX];
    cal_buffer contents[SERVICES_MAX];
    char *paths[SERVICES_MAX];
    const char *names[SERVICES_MAX];
    size_t count;
} modules;

static void modules_free(modules *m) {
    for (size_t i = 0; i < m->count; i++) {
        cal_buffer_deinit(&m->contents[i]);
        free(m->paths[i]);
    }
    free(m);
}

static int add_module(modules *m, const char *name, const char *path, cal_error *err) {
    size_t i = m->count++, size = strlen(name) + sizeof ".wasm";
    cal_buffer_init(&m->contents[i], CAL_APP_MODULE_MAX);
    m->names[i] = name;
    m->paths[i] = malloc(size);
    if (!m->paths[i]) return cal_fail(err, CAL_ENOMEM, "out of memory");
    snprintf(m->paths[i], size, "%s.wasm", name);
    int error = cal_os_read_file(cal_os_posix(), path, CAL_APP_MODULE_MAX, &m->contents[i], err);
    m->files[i] = (cal_bundle_file){m->paths[i], cal_buffer_slice(&m->contents[i])};
    return error;
}

static int pack_modules(const cal_pack_options *o, const cal_secret *seed, cal_buffer *ret_archive,
                        cal_error *err) {
    if (!o->package || !o->version)
        return cal_fail(err, CAL_EINVAL, "a bundle needs a package and a version");
    if (!o->wasm_path == !o->service_count)
        return cal_fail(err, CAL_EINVAL, "a bundle needs either one module or services");
    if (o->service_count > SERVICES_MAX)
        return cal_fail(err, CAL_ELIMIT, "more than %d services", SERVICES_MAX);
    modules *m = calloc(1, sizeof *m);
    if (!m) return cal_fail(err, CAL_ENOMEM, "out of memory");
    int error = o->wasm_path ? add_module(m, "app", o->wasm_path, err) : 0;
    for (size_t i = 0; error == 0 && i < o->service_count; i++)
        error = add_module(m, o->services[i].name, o->services[i].wasm_path, err);
    cal_manifest_options manifest = {.package = o->package,
                                     .app_version = o->version,
                                     .min_runtime_version = o->min_runtime_version,
                                     .name = o->name,
                                     .description = o->description,
                                     .author = o->author,
                                     .license = o->license};
    if (o->wasm_path) {
        manifest.wasm_path = m->paths[0];
    } else {
        manifest.service_names = m->names;
        manifest.service_paths = (const char *const *)m->paths;
        manifest.service_count = m->count;
    }
    cal_buffer json;
    cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
    if (error == 0) error = cal_manifest_make(&manifest, &json, err);
    if (error == 0)
        error =
            cal_bundle_pack(cal_buffer_slice(&json), m->files, m->count, seed, ret_archive, err);
    cal_buffer_deinit(&json);
    modules_free(m);
    return error;
}

int cal_pack_bundle(const cal_pack_options *o, cal_error *err) {
    cal_secret seed;
    const cal_secret *signer;
    int error = read_signer(&o->signer, &seed, &signer, err);
    if (error) return error;
    cal_buffer archive;
    cal_buffer_init(&archive, ARCHIVE_MAX);
    error = o->folder ? cal_bundle_pack_folder(cal_os_posix(), o->folder, signer, &archive, err)
                      : pack_modules(o, signer, &archive, err);
    if (error == 0)
        error = cal_os_write_file(cal_os_posix(), o->output_path, cal_buffer_slice(&archive), err);
    cal_buffer_deinit(&archive);
    if (signer) cal_secret_wipe(&seed);
    return error;
}

int cal_pack_sign(const char *bundle_path, const cal_pack_signer *who, const char *output_path,
                  cal_error *err) {
    cal_secret seed;
    const cal_secret *signer;
    cal_buffer archive, sealed;
    int error = read_signer(who, &seed, &signer, err);
    if (error) return error;
    if (!signer) return cal_fail(err, CAL_EINVAL, "no key to sign with");
    cal_buffer_init(&archive, ARCHIVE_MAX);
    cal_buffer_init(&sealed, ARCHIVE_MAX);
    error = cal_os_read_file(cal_os_posix(), bundle_path, ARCHIVE_MAX, &archive, err);
    if (error == 0) error = cal_bundle_sign(cal_buffer_slice(&archive), signer, &sealed, err);
    if (error == 0)
        error = cal_os_write_file(cal_os_posix(), output_path, cal_buffer_slice(&sealed), err);
    cal_buffer_deinit(&archive);
    cal_buffer_deinit(&sealed);
    cal_secret_wipe(&seed);
    return error;
}

int cal_pack_keygen(const char *path, char ret_signer_id[CAL_SIGNER_TEXT_MAX], cal_error *err) {
    return cal_bundle_key_generate(cal_os_posix(), path, ret_signer_id, err);
}
