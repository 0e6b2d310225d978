/* Whether the author of a delta may write, judged at the cut that the delta cites (governance.md
 * 13), and the key that opens it (share.h).
 *
 * The answer follows from the cut alone, so it is the same whenever and in whatever order things
 * arrive: who is removed later may have written before. What the cut does not say yet is asked
 * again when the operation or key arrives; never are the present rows taken instead (18.1, T35).
 * A change of the namespace may be open: what is asked is what is committed. Loop thread. */
#include "base/error.h"
#include "gov/draft.h"
#include "gov/share.h"

/* Read-only is who has that role in a row of the context's own group, as in the reference; an
 * inherited role does not count until its nodes agree (18.2, G7). */
static bool reads_only(const gov_view *cut, const cal_group_id *group,
                       const cal_account_id *account) {
    gov_member member;
    return gov_member_get(cut, group, account, &member) &&
           (member.role == GOV_ROLE_READ_ONLY || member.role == GOV_ROLE_READ_ONLY_TEE);
}

static gov_author judge(const gov_view *cut, const cal_group_id *group,
                        const cal_public_key *author) {
    gov_author answer = {.verdict = GOV_AUTHOR_NOT};
    if (gov_cut_readable(cut, group, &answer.wait)) {
        answer.verdict = GOV_AUTHOR_UNKNOWN;
        return answer;
    }
    if (!gov_account_of_key(cut, author->bytes, &answer.account))
        answer.why = "its author's key speaks for no account at the position that it cites";
    else if (gov_path_of(cut, group, &answer.account, NULL) == GOV_PATH_NONE)
        answer.why = "its author is no member at the position that it cites";
    else if (reads_only(cut, group, &answer.account))
        answer.why = "its author may only read at the position that it cites";
    else
        answer.verdict = GOV_AUTHOR_MAY;
    return answer;
}

/* A position without heads names nothing that its author could be a member by: the present rows,
 * which would be asked for an operation, would let the verdict depend on the order of arrival. */
static int judge_at(cal_gov *gov, gov_namespace *ns, const cal_group_id *group,
                    const cal_public_key *author, const gov_position *position,
                    gov_author *ret_author, cal_error *err) {
    gov_view cut;
    gov_change look;
    gov_wait wait;
    uint32_t named = 0;
    for (uint32_t i = 0; i < position->count; i++) named += !gov_id_zero(position->heads[i].bytes);
    if (!named) {
        *ret_author = (gov_author){.verdict = GOV_AUTHOR_NOT,
                                   .why = "it cites no position in the namespace's history"};
        return 0;
    }
    if (gov_cut_present(ns, position->heads, position->count, &cut)) {
        *ret_author = judge(&cut, group, author);
        return 0;
    }
    gov_look_begin(gov, ns, &look);
    int result = gov_cut_view(&look, position->heads, position->count, &cut, &wait);
    if (!result)
        *ret_author = judge(&cut, group, author);
    else if (result == CAL_ESTATE) {
        *ret_author = (gov_author){.verdict = GOV_AUTHOR_UNKNOWN, .wait = wait};
        result = 0;
    } else
        cal_fail(err, result, "the rows at a delta's position: %s", cal_error_text(result));
    gov_look_end(&look);
    return result;
}

int gov_author_judge(cal_gov *gov, const cal_context_id *context, const cal_public_key *author,
                     const gov_position *position, gov_author *ret_author, cal_error *err) {
    gov_view view;
    cal_group_id group;
    gov_namespace *ns = gov_find_context(gov, context, &view, &group);
    if (!ns) return cal_fail(err, CAL_ENOTFOUND, "the context is in no group of this node");
    return judge_at(gov, ns, &group, author, position, ret_author, err);
}

int gov_context_key(cal_gov *gov, const cal_context_id *context, const cal_hash *key_id,
                    cal_secret *ret_key) {
    gov_view view;
    cal_group_id group;
    gov_group_key key;
    if (!gov_find_context(gov, context, &view, &group) ||
        !(gov_key_find(&view, &group, key_id, &key) ||
          gov_key_find(&view, &view.namespace_id, key_id, &key)))
        return CAL_ENOTFOUND;
    *ret_key = key.key;
    cal_secret_wipe(&key.key);
    return 0;
}
