package policy

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/bailiwick-go/bailiwick/identity"
)

// A cluster is what the authorizer looks things up in, without the copies that a lister of an informer makes. There are no namespaces.
type cluster struct {
	roles    map[string]*rbacv1.ClusterRole
	bindings atomic.Pointer[[]*rbacv1.ClusterRoleBinding]
}

var errNamespace = errors.New("no namespaces")

func (c *cluster) GetRole(context.Context, string, string) (*rbacv1.Role, error) {
	return nil, errNamespace
}

func (c *cluster) ListRoleBindings(context.Context, string) ([]*rbacv1.RoleBinding, error) {
	return nil, errNamespace
}

func (c *cluster) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	if r := c.roles[name]; r != nil {
		return r, nil
	}
	return nil, errors.New("no role " + name)
}

func (c *cluster) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return *c.bindings.Load(), nil
}

// newCluster has a role with everything that it inherits, and one binding for each role. What lies below a path is what Kubernetes calls a URL.
func newCluster(w *world) *cluster {
	c := &cluster{roles: map[string]*rbacv1.ClusterRole{}}
	bindings := make([]*rbacv1.ClusterRoleBinding, w.roles)
	for r := range w.roles {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: roleName(r)}}
		for _, j := range w.closure(r) {
			for _, p := range w.permissions(j) {
				rule := rbacv1.PolicyRule{Verbs: []string{p.action}}
				if w.deep {
					rule.NonResourceURLs = []string{"/" + p.pattern("*")}
				} else {
					rule.APIGroups, rule.Resources = []string{""}, []string{p.resource}
				}
				role.Rules = append(role.Rules, rule)
			}
		}
		c.roles[role.Name] = role
		bindings[r] = &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		}
	}
	for n, id := range w.ids[:w.users] {
		for k := range w.each {
			b := bindings[w.role(n, k)]
			b.Subjects = append(b.Subjects, subjectOf(id))
		}
	}
	c.bindings.Store(&bindings)
	return c
}

func subjectOf(id identity.ID) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: id.String()}
}

func (c *cluster) decides(deep bool) decider {
	a := rbac.New(c, c, c, c)
	return func(all []question) prepared {
		ctx := context.Background()
		requests := make([]authorizer.Attributes, len(all))
		for i, q := range all {
			r := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: q.name}, Verb: q.action}
			if deep {
				r.Path = "/" + q.resource
			} else {
				r.ResourceRequest, r.Resource = true, q.resource
			}
			requests[i] = r
		}
		return func(i int) (bool, error) {
			d, _, err := a.Authorize(ctx, requests[i])
			return d == authorizer.DecisionAllow, err
		}
	}
}

func buildKubernetes(w *world) (decider, error) { return newCluster(w).decides(w.deep), nil }

// changeKubernetes puts another binding with one subject more into a new list, and then one without it.
func changeKubernetes(w *world) (*changing, error) {
	c := newCluster(w)
	return &changing{c.decides(w.deep), func(who identity.ID, role int, add bool) error {
		bindings := slices.Clone(*c.bindings.Load())
		b, s := *bindings[role], subjectOf(who)
		b.Subjects = slices.DeleteFunc(slices.Clone(b.Subjects), func(other rbacv1.Subject) bool { return other == s })
		if add {
			b.Subjects = append(b.Subjects, s)
		}
		bindings[role] = &b
		c.bindings.Store(&bindings)
		return nil
	}}, nil
}
