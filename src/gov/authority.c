/* Who may do what: questions about a view (governance.md 7.2 and 8). Pure functions of rows. */
#include "gov/internal.h"

bool gov_id_zero(const uint8_t id[32]) {
    static const uint8_t zero[32];
    return memcmp(id, zero, 32) == 0;
}

bool gov_id_equal(const uint8_t a[32], const uint8_t b[32]) { return memcmp(a, b, 32) == 0; }

bool gov_group_open(const gov_view *view, const cal_group_id *group) {
    gov_key key = gov_key_of(ROW_VISIBILITY, group->bytes, NULL, NULL);
    cal_slice value;
    return !gov_id_equal(group->bytes, view->namespace_id.bytes) &&
           gov_view_get(view, &key, &value) && value.data[0] == 0;
}

bool gov_group_parent(const gov_view *view, const cal_group_id *group, cal_group_id *ret_parent) {
    gov_key key = gov_key_of(ROW_PARENT, group->bytes, NULL, NULL);
    cal_slice value;
    if (!gov_view_get(view, &key, &value)) return false;
    memcpy(ret_parent->bytes, value.data, 32);
    return true;
}

/* At a cut the reference takes the namespace's default where the rows give no bit at all, even
 * where they say so. */
static uint32_t effective(const gov_view *view, const cal_group_id *group,
                          const cal_account_id *account) {
    uint32_t capabilities = gov_capabilities_of(view, group, account);
    return capabilities ? capabilities : view->capability_base;
}

/* One step up through an open group; false at a restricted group or the top. */
static bool climb(const gov_view *view, cal_group_id *group) {
    return gov_group_open(view, group) && gov_group_parent(view, group, group);
}

bool gov_admin_direct(const gov_view *view, const cal_group_id *group,
                      const cal_account_id *account) {
    gov_meta meta;
    gov_member member;
    if (gov_id_zero(account->bytes)) return false; /* the placeholder grants nothing */
    if (gov_meta_get(view, group, &meta) && gov_id_equal(meta.admin.bytes, account->bytes))
        return true;
    return gov_member_get(view, group, account, &member) && member.role == GOV_ROLE_ADMIN;
}

static bool is_root_admin(const gov_view *view, const cal_account_id *account) {
    gov_key key = gov_key_of(ROW_ROOT_ADMIN, NULL, NULL, NULL);
    cal_slice value;
    return gov_view_get(view, &key, &value) && gov_id_equal(value.data, account->bytes);
}

bool gov_admin(const gov_view *view, const cal_group_id *group, const cal_account_id *account) {
    cal_group_id at = *group;
    if (is_root_admin(view, account)) return true;
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX; steps++) {
        if (gov_admin_direct(view, &at, account)) return true;
        if (!climb(view, &at)) return false;
    }
    return false;
}

bool gov_owner(const gov_view *view, const cal_group_id *group, const cal_account_id *account) {
    gov_key key = gov_key_of(ROW_OWNER, group->bytes, NULL, NULL);
    gov_meta meta;
    cal_slice value;
    if (gov_id_zero(account->bytes)) return false;
    if (gov_view_get(view, &key, &value)) return gov_id_equal(value.data, account->bytes);
    return gov_meta_get(view, group, &meta) && gov_id_equal(meta.owner.bytes, account->bytes);
}

gov_path gov_path_of(const gov_view *view, const cal_group_id *group, const cal_account_id *account,
                     gov_role *ret_role) {
    gov_role ignored;
    gov_member member;
    if (!ret_role) ret_role = &ignored;
    if (gov_member_get(view, group, account, &member)) {
        *ret_role = (gov_role)member.role;
        return GOV_PATH_DIRECT;
    }
    *ret_role = GOV_ROLE_ADMIN;
    if (gov_admin_direct(view, group, account)) return GOV_PATH_DIRECT;
    cal_group_id at = *group;
    bool refused =
        false; /* the nearest row lacks the capability; only an admin higher up can still grant */
    for (int steps = 0; steps < GOV_ROOT_WALK_MAX && climb(view, &at); steps++) {
        if (gov_admin_direct(view, &at, account)) {
            *ret_role = GOV_ROLE_ADMIN;
            return GOV_PATH_INHERITED;
        }
        if (refused || !gov_member_get(view, &at, account, &member)) continue;
        *ret_role = (gov_role)member.role;
        if (effective(view, &at, account) & GOV_CAN_JOIN_OPEN_SUBGROUPS) return GOV_PATH_INHERITED;
        refused = true;
    }
    return GOV_PATH_NONE;
}

static bool get_u32(const gov_view *view, gov_key key, uint32_t *ret_value) {
    cal_slice value;
    if (!gov_view_get(view, &key, &value)) return false;
    *ret_value = cal_read_u32le(value.data);
    return true;
}

uint32_t gov_capabilities_of(const gov_view *view, const cal_group_id *group,
                             const cal_account_id *account) {
    uint32_t value = 0;
    if (get_u32(view, gov_key_of(ROW_CAPABILITIES, group->bytes, account->bytes, NULL), &value))
        return value;
    get_u32(view, gov_key_of(ROW_DEFAULTS, group->bytes, NULL, NULL), &value);
    return value;
}

/* A capability counts only for a member (governance.md 18.2, G5). */
bool gov_allowed(const gov_view *view, const cal_group_id *group, const cal_account_id *account,
                 uint32_t capability) {
    if (gov_admin(view, group, account)) return true;
    return gov_path_of(view, group, account, NULL) != GOV_PATH_NONE &&
           (effective(view, group, account) & capability) != 0;
}

bool gov_last_admin(const gov_view *view, const cal_group_id *group,
                    const cal_account_id *account) {
    gov_meta meta;
    if (!gov_admin_direct(view, group, account)) return false;
    if (gov_meta_get(view, group, &meta) && !gov_id_zero(meta.admin.bytes) &&
        !gov_id_equal(meta.admin.bytes, account->bytes))
        return false;
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, group->bytes, NULL);
    cal_slice who, value;
    while (gov_walk_next(&walk, &who, &value))
        if (value.data[0] == GOV_ROLE_ADMIN && !gov_id_equal(who.data, account->bytes))
            return false;
    return true;
}

uint32_t gov_root_epoch(const gov_view *view, const cal_account_id *account,
                        uint8_t *ret_root_key) {
    gov_walk walk = gov_walk_start(view, ROW_ROOT_KEY, account->bytes, NULL);
    cal_slice epoch, value;
    uint32_t last = 0;
    while (gov_walk_next(&walk, &epoch, &value)) { /* ascending: the last is the greatest */
        last = cal_read_u32be(epoch.data + epoch.len - 4);
        if (ret_root_key) memcpy(ret_root_key, value.data, 32);
    }
    return last;
}

static bool binding_live(const gov_view *view, cal_slice device, const gov_binding *binding) {
    gov_key revoked = gov_key_of(ROW_REVOKED, device.data, NULL, NULL);
    return !gov_view_get(view, &revoked, NULL) &&
           binding->key_epoch >= gov_root_epoch(view, &binding->account, NULL);
}

/* Among live devices that share the first 16 bytes (the seed of a replica's clock) only the lowest
 * id counts. */
static bool binding_shadowed(const gov_view *view, cal_slice device) {
    enum { SEED = 16 };
    gov_walk walk = gov_walk_start(view, ROW_BINDING, NULL, NULL);
    cal_slice other, value;
    while (gov_walk_next(&walk, &other, &value) && memcmp(other.data, device.data, 32) < 0) {
        if (memcmp(other.data, device.data, SEED) != 0) continue;
        gov_binding binding = gov_binding_read(value);
        if (binding_live(view, other, &binding)) return true;
    }
    return false;
}

bool gov_device_live(const gov_view *view, cal_slice device, const gov_binding *binding) {
    return binding_live(view, device, binding) && !binding_shadowed(view, device);
}

bool gov_account_of_key(const gov_view *view, const uint8_t sign_key[32],
                        cal_account_id *ret_account) {
    gov_walk walk = gov_walk_start(view, ROW_BINDING, NULL, NULL);
    cal_slice device, value;
    while (gov_walk_next(&walk, &device, &value)) {
        gov_binding binding = gov_binding_read(value);
        if (!gov_id_equal(binding.sign_key, sign_key) || !gov_device_live(view, device, &binding))
            continue;
        *ret_account = binding.account;
        return true;
    }
    return false;
}

cal_group_id gov_key_group(const gov_view *view, const cal_group_id *group) {
    cal_group_id at = *group;
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX; steps++) {
        if (gov_id_equal(at.bytes, view->namespace_id.bytes)) return view->namespace_id;
        if (!climb(view, &at)) break;
    }
    return *group;
}
