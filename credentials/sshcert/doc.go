// Package sshcert mints OpenSSH user certificates and checks them. Hosts give [New] to a [credentials.Issuer]; Go SSH servers use
// [Checker.Authenticate] as their PublicKeyCallback; OpenSSH's sshd needs only the CA's public key in TrustedUserCAKeys.
//
// # Certificates
//
// The format is OpenSSH's PROTOCOL.certkeys. A certificate always names its principals, none of them a wildcard: one without
// principals would be good for any user. It is valid for ValidAfter <= now < ValidBefore, both in whole seconds rounded down, so
// that it never outlives its authorization. Its key ID, which sshd logs, is the origin, the serial and the [Chain]. It has no critical options, and of the
// extensions only those that [New] was given.
//
// # Receipts
//
// The extension [ReceiptExtension] holds the receipt, a signed note. What the receipt binds is the SHA-256 hash of the bytes that
// would be signed if the extension were not there. OpenSSH ignores an extension that it does not know, so sshd by itself does not
// demand receipts; a [Checker] does.
package sshcert
