// Package credentials makes proofs of privilege that end: SSH certificates, tokens, database users. Most hosts need [NewIssuer] and
// [Issuer.Issue]; subpackages hold the minters, one for each type of credential. It does not decide who may have what: a [Live] does.
//
// # Issuing
//
// [Issuer.Issue] takes a proven caller, asks [Live] what its authority is good for, and lets the type's [Minter] make a credential within
// that: the same principals or fewer, and no longer. The order is fixed, and each step rests on the one before:
//
//  1. The caller is admitted, the request is complete, and Live allows every need.
//  2. The intent is committed ("credential.intended"), in one transaction with the record versions that Live rested on. It fixes the
//     serial, the nonce and the hash of the credential without its receipt.
//  3. The credential is minted with a receipt for the intent.
//  4. Live is asked again, and the outcome is committed ("credential.issued") with the versions that it rested on this time. Only then
//     is the credential handed out. Whatever fails on the way ends the credential ("credential.failed") and nothing is handed out.
//
// [Issuer.Sweep] revokes an intent that has had no outcome for [IntentTimeout], for the crashes between the steps.
//
// # Receipts
//
// A receipt ([audit.Receipt]) inside the credential binds it to its intent in the log, as RFC 6962 section 3.1 does with precertificates.
// A target that demands it refuses what was signed with the real CA key but is not on the record. It says nothing about revocation.
//
// # Taking away
//
// [Issuer.Revoke], [Issuer.Settle] and [Issuer.RevokeSubject] take effect in [Issuer.Revoked] before they are committed. A target that
// cannot ask honours a credential until its NotAfter. End the grant or suspend the identity first, then revoke: what is
// being issued meanwhile fails at step 4.
//
// # Principals
//
// Principals may be the names of people: "credential.intended" holds a commitment to them ([audit.Event.Beside]), no other event names them, and
// [Issuer.Erase] takes them out of the records of whoever was erased ("credential.erased"). Certificates have them, and are not ours to erase. A
// grant's scope and the resource of an act are in the log as they are: where accounts bear people's names, let resources be named in another way.
//
// # Secrets
//
// A [Secret] renders as "[redacted]" whatever prints it; [Secret.Expose] is its one door.
//
// # Stability
//
// Kinds and fields of events and the form of records are stored and do not change. The Go API may, before the first release.
package credentials
