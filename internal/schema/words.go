package schema

// A segment of a name or a pattern is not "." or "..", which takes three ways to say without looking ahead.
const (
	segment       = `(?:[A-Za-z0-9_@+=~:-][A-Za-z0-9._@+=~:-]*|\.[A-Za-z0-9_@+=~:-][A-Za-z0-9._@+=~:-]*|\.\.[A-Za-z0-9._@+=~:-]+)`
	actionSegment = `(?:[A-Za-z0-9_@+=~-][A-Za-z0-9._@+=~-]*|\.[A-Za-z0-9_@+=~-][A-Za-z0-9._@+=~-]*|\.\.[A-Za-z0-9._@+=~-]+)`
	wild          = `(?:` + segment + `\*?|\*)`
	actionWild    = `(?:` + actionSegment + `\*?|\*)`
)

// Shared are kinds of strings, by the names that the schemas have for them. What they may be package canon says.
var Shared = map[string]Keywords{
	"name":          {"maxLength": 512, "pattern": `^` + segment + `(?:/` + segment + `)*$`, "description": "Segments of ASCII letters, digits and . _ - @ + = ~ : joined by a slash."},
	"resource":      {"maxLength": 512, "pattern": `^(?:\*\*|` + wild + `(?:/` + wild + `)*(?:/\*\*)?)$`, "description": "A pattern: a segment of a name may end with *, and the last may be **."},
	"action":        {"maxLength": 512, "pattern": `^(?:\*\*|` + actionWild + `(?::` + actionWild + `)*(?::\*\*)?)$`, "description": "A pattern: segments joined by a colon, which may end with *, and the last may be **."},
	"attributeName": {"maxLength": 512, "pattern": `^[A-Za-z0-9_-]+$`},
	"attribute":     {"pattern": `^(?:action\.name|(?:subject|resource|context)\.[A-Za-z0-9_-]+)$`},
	"value":         {"minLength": 1, "maxLength": 512, "description": "At most 512 bytes, compared byte for byte."},
}

func about(description string, more ...Keywords) Keywords {
	k := Keywords{"description": description}
	for _, m := range more {
		deepMerge(k, m)
	}
	return k
}

// like says that strings are like one of [Shared].
func like(name string) Keywords { return Keywords{"$ref": "#/$defs/" + name} }

// listOf says what one to so many items are like.
func listOf(most int, k Keywords) Keywords {
	return Keywords{"items": k, "minItems": 1, "maxItems": most}
}

// oneOf says that exactly one of the members is there; anyOf, that at least one is.
func oneOf(members ...string) Keywords { return Keywords{"oneOf": each(members)} }

func anyOf(members ...string) Keywords { return Keywords{"anyOf": each(members)} }

func each(members []string) (out []Keywords) {
	for _, m := range members {
		out = append(out, Keywords{"required": []string{m}})
	}
	return out
}

var (
	unique = Keywords{"uniqueItems": true}
	match  = Keywords{"maxProperties": 8, "propertyNames": like("attributeName"), "additionalProperties": like("value")}
	limit  = Keywords{"minimum": 0}
)

// Words says what Go types do not, by the names of types and of their members. Each has a description at least.
var Words = map[string]Keywords{
	"time.Time":        about("A time, with at most microseconds.", Keywords{"pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})$`}),
	"netip.Prefix":     about("A network, such as 10.0.0.0/8 or 2001:db8::/32. No bit beyond its length is set.", Keywords{"pattern": `^[0-9A-Fa-f:.]+/[0-9]{1,3}$`}),
	"identity.ID":      about("The ID of an identity: a UUID in lower case.", Keywords{"pattern": `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`}),
	"identity.AAL":     about("An authenticator assurance level of NIST SP 800-63B-4."),
	"identity.Kind":    about("What an identity is."),
	"rbac.Duration":    about("A duration, such as 4h or 1h30m.", Keywords{"pattern": `^[+-]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)$`}),
	"rbac.Mode":        about("Whether the role may be activated (eligible) or is held at once (active)."),
	"rbac.Day":         about("A day of the week."),
	"rbac.Clock":       about("A time of day.", Keywords{"pattern": `^(?:[01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$`}),
	"rbac.Sensitivity": about("How much harm misuse of a resource does."),
	"rbac.ConstraintKind": about("What a constraint counts: what a subject is authorised for (static), has active at one time (dynamic), or has ever done on " +
		"one resource (history)."),

	"bailiwick.Policy":      about("What a system decides by."),
	"bailiwick.Policy.rbac": about("Who may do what."),
	"bailiwick.Policy.jit":  about("How privilege is asked for."),

	"jit.Rules":        about("How roles are requested."),
	"jit.Rules.rules":  about("One rule for each role that may be requested."),
	"jit.Rules.levels": about("What sensitive scopes need besides.", Keywords{"maxItems": 4}),

	"jit.Rule":             about("How roles are requested: with approvals, or for a reason without.", oneOf("approval", "autoApprove")),
	"jit.Rule.id":          about("There is one rule of an ID.", like("name")),
	"jit.Rule.roles":       about("The roles. Each has at most one rule.", Keywords{"items": like("name"), "minItems": 1}, unique),
	"jit.Rule.maxDuration": about("The longest that a grant lasts."),
	"jit.Rule.lapse":       about("How long a request may wait to be activated; an hour if it is left out."),
	"jit.Rule.mfa":         about("The authentication that requesting, approving and activating need."),
	"jit.Rule.approval":    about("Who must approve."),
	"jit.Rule.autoApprove": about("The reason why nobody needs to."),

	"jit.Approval":        about("A number of distinct humans, each from one of the groups."),
	"jit.Approval.count":  about("How many.", Keywords{"minimum": 1}),
	"jit.Approval.groups": about("Their groups.", Keywords{"items": like("name"), "minItems": 1}, unique),

	"jit.Level":             about("What any role needs besides where the scope may reach a resource that is at least so sensitive. It asks for something.", anyOf("maxDuration", "mfa", "approval")),
	"jit.Level.sensitivity": about("There is one level for each."),
	"jit.Level.maxDuration": about("The longest that a grant lasts."),
	"jit.Level.mfa":         about("The authentication that requesting, approving and activating need."),
	"jit.Level.approval":    about("Who must approve besides."),

	"rbac.Policy":             about("Who may do what."),
	"rbac.Policy.roles":       about("Named sets of permissions."),
	"rbac.Policy.assignments": about("Who has or may activate which role, where and when."),
	"rbac.Policy.denies":      about("What is forbidden, whatever roles say."),
	"rbac.Policy.resources":   about("The catalogue: what is known of resources. Of several entries that match a resource the most specific one describes it."),
	"rbac.Policy.protections": about("What using any permission on a sensitive resource needs.", Keywords{"maxItems": 4}),
	"rbac.Policy.constraints": about("Separation of duties.", Keywords{"maxItems": 1024}),
	"rbac.Policy.ceilings":    about("Limits on activations of roles.", Keywords{"maxItems": 1024}),

	"rbac.Role":             about("Its own permissions, and those of the roles that it inherits. It has at least one of the two.", anyOf("inherits", "permissions")),
	"rbac.Role.name":        about("There is one role of a name.", like("name")),
	"rbac.Role.inherits":    about("The roles whose permissions it holds, too. There are no cycles.", listOf(255, like("name")), unique),
	"rbac.Role.permissions": about("Its own permissions."),
	"rbac.Role.mfa":         about("The authentication that using the role or its own permissions needs."),
	"rbac.Role.when":        about("What must hold for the role and its own permissions to give anything."),

	"rbac.MFA":        about("An authentication of a strength, not longer ago than an age."),
	"rbac.MFA.aal":    about("At least this level."),
	"rbac.MFA.maxAge": about("More than zero."),

	"rbac.Permission":           about("Every action that one of the actions matches, on every resource that one of the resources matches."),
	"rbac.Permission.actions":   about("Patterns whose segments are joined by a colon.", listOf(256, like("action"))),
	"rbac.Permission.resources": about("Patterns whose segments are joined by a slash.", listOf(256, like("resource"))),

	"rbac.Assignment":           about("A role for exactly one of an identity, a group, and whoever has all attributes of a match.", oneOf("identity", "group", "match")),
	"rbac.Assignment.id":        about("There is one assignment of an ID.", like("name")),
	"rbac.Assignment.identity":  about("Whose it is."),
	"rbac.Assignment.group":     about("The group whose members' it is.", like("name")),
	"rbac.Assignment.match":     about("The attributes, with their values, of those whose it is.", match),
	"rbac.Assignment.role":      about("The name of a role.", like("name")),
	"rbac.Assignment.scope":     about("The resources that it reaches: patterns whose segments are joined by a slash.", listOf(256, like("resource"))),
	"rbac.Assignment.mode":      about("What it gives."),
	"rbac.Assignment.notBefore": about("When it begins. Without it, it has always begun."),
	"rbac.Assignment.notAfter":  about("The first instant at which it is over. Without it, it does not end."),
	"rbac.Assignment.when":      about("What must hold for it to give anything."),

	"rbac.Deny": about("Forbids actions on resources to exactly one of an identity, a group, whoever has all attributes of a match, and everyone.",
		oneOf("identity", "group", "match", "everyone")),
	"rbac.Deny.id":        about("There is one deny of an ID.", like("name")),
	"rbac.Deny.identity":  about("To whom."),
	"rbac.Deny.group":     about("The group to whose members.", like("name")),
	"rbac.Deny.match":     about("The attributes, with their values, of those to whom.", match),
	"rbac.Deny.everyone":  about("To everyone."),
	"rbac.Deny.actions":   about("Patterns whose segments are joined by a colon.", listOf(256, like("action"))),
	"rbac.Deny.resources": about("Patterns whose segments are joined by a slash.", listOf(256, like("resource"))),
	"rbac.Deny.when":      about("It forbids unless this is false."),

	"rbac.Condition":            about("Holds if all that it names does. It names something, and is at most 8 levels deep.", Keywords{"minProperties": 1}),
	"rbac.Condition.hours":      about("The time is in one of them.", Keywords{"maxItems": 256}),
	"rbac.Condition.networks":   about("The request comes from one of them.", Keywords{"maxItems": 256}),
	"rbac.Condition.mfa":        about("The authentication is as strong and as fresh."),
	"rbac.Condition.kinds":      about("The subject is of one of them.", unique),
	"rbac.Condition.attributes": about("Each of them holds.", Keywords{"maxItems": 256}),
	"rbac.Condition.any":        about("One of them holds.", Keywords{"maxItems": 256}),
	"rbac.Condition.not":        about("It does not hold."),
	"rbac.Condition.cel":        about("The expression, in the Common Expression Language, holds."),

	"rbac.Hours":      about("A part of some days, by the wall clock of a place. If its end is not after its start, it is on the next day."),
	"rbac.Hours.days": about("The days on which it starts. Without it, every day.", unique, Keywords{"maxItems": 7}),
	"rbac.Hours.from": about("When it starts, from 00:00 to 23:59."),
	"rbac.Hours.to":   about("When it is over, not the same as its start."),
	"rbac.Hours.zone": about("A place of the IANA time zone database, such as Europe/Zurich, or UTC.", Keywords{"pattern": `^(?:UTC|.*/.*)$`}),

	"rbac.Comparison": about("Compares an attribute: by its value, with another attribute, or as an integer. One that is not there makes it unknown.",
		Keywords{"oneOf": []Keywords{{"required": []string{"in"}}, {"required": []string{"equals"}}, anyOf("atLeast", "atMost")}}),
	"rbac.Comparison.attribute": about("Such as subject.id, resource.owner, context.session, action.name, or subject.department.", like("attribute")),
	"rbac.Comparison.in":        about("Its value is one of these.", listOf(256, like("value")), unique),
	"rbac.Comparison.equals":    about("It has the value of this other attribute.", like("attribute")),
	"rbac.Comparison.atLeast":   about("It is not less."),
	"rbac.Comparison.atMost":    about("It is not more."),

	"rbac.Resource":             about("An entry of the catalogue: what is known of the resources that a pattern matches."),
	"rbac.Resource.pattern":     about("Segments joined by a slash. There is one entry of a pattern.", like("resource")),
	"rbac.Resource.sensitivity": about("What no entry matches counts as critical."),
	"rbac.Resource.owner":       about("The identity that owns them."),
	"rbac.Resource.ownerGroup":  about("The group that owns them.", like("name")),
	"rbac.Resource.attributes":  about("What else is known of them.", Keywords{"propertyNames": like("attributeName"), "additionalProperties": like("value")}),

	"rbac.Protection":             about("What using any permission needs on a resource that is at least so sensitive. It asks for something.", anyOf("mfa", "when")),
	"rbac.Protection.sensitivity": about("There is one protection for each."),
	"rbac.Protection.mfa":         about("The authentication that it needs."),
	"rbac.Protection.when":        about("What must hold."),

	"rbac.Constraint":             about("Nobody has as many of a set of roles, or of permissions, as the cardinality says.", oneOf("roles", "permissions")),
	"rbac.Constraint.id":          about("There is one constraint of an ID.", like("name")),
	"rbac.Constraint.kind":        about("What is counted. A history is one of permissions."),
	"rbac.Constraint.roles":       about("A set of roles.", listOf(64, like("name")), unique, Keywords{"minItems": 2}),
	"rbac.Constraint.permissions": about("A set of permissions.", Keywords{"minItems": 2, "maxItems": 64}),
	"rbac.Constraint.cardinality": about("At most the size of the set.", Keywords{"minimum": 2, "maximum": 64}),
	"rbac.Constraint.exceptions":  about("Who is excused from it for a time."),

	"rbac.Exception":          about("Excuses one identity until a time."),
	"rbac.Exception.identity": about("Who is excused."),
	"rbac.Exception.notAfter": about("When the constraint holds again."),
	"rbac.Exception.reason":   about("Why.", Keywords{"minLength": 1}),

	"rbac.Ceiling":        about("Limits how much a role is activated. It sets at least one limit.", anyOf("atOnce", "perDay")),
	"rbac.Ceiling.id":     about("There is one ceiling of an ID.", like("name")),
	"rbac.Ceiling.role":   about("The name of a role, which counts with every role that inherits it.", like("name")),
	"rbac.Ceiling.kinds":  about("By whom. Without it, by all.", unique),
	"rbac.Ceiling.atOnce": about("So many identities may have it active at one time.", limit),
	"rbac.Ceiling.perDay": about("So often may one identity activate it in a day, UTC.", limit),
}
