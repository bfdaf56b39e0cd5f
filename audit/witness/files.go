package witness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// maxFile is how many bytes a resource of a log can have: a full bundle of entries of the largest size, each after its length.
const maxFile = 256 * (merkle.MaxLeaf + 2)

// HTTPFiles are the files of a log that somebody publishes (c2sp.org/tlog-tiles): each is what a GET of URL and its name returns. They are believed no
// more than any others. Redirects are not followed, whatever HTTP says: a log is where its prefix is. The zero HTTPFiles have no file: reading is an error.
type HTTPFiles struct {
	URL  string       // the log's monitoring prefix: http or https, without user, query and fragment
	HTTP *http.Client // asks; nil means one of its own. It waits for its timeout, or ten seconds if it has none
}

var _ merkle.Files = HTTPFiles{}

// ReadFile returns the resource. The error wraps [fs.ErrNotExist] if the server says that there is none (404), or none any more (410). Names that no
// resource of a log has are not asked for, and there is none. More bytes than any has are an error.
func (f HTTPFiles) ReadFile(name string) ([]byte, error) {
	if !fs.ValidPath(name) || name != "checkpoint" && !strings.HasPrefix(name, "tile/") || strings.ContainsAny(name, "%?#\\") {
		return nil, fmt.Errorf("witness: no log has %.80q: %w", name, fs.ErrNotExist)
	}
	from, err := endpoint(f.URL, name)
	if err != nil {
		return nil, fmt.Errorf("witness: %.80q: %w", name, err)
	}
	data, err := f.get(from)
	if err != nil {
		return nil, fmt.Errorf("witness: %.80q: %w", name, err)
	}
	return data, nil
}

func (f HTTPFiles) get(from string) ([]byte, error) {
	client := http.Client{}
	if f.HTTP != nil {
		client = *f.HTTP
	}
	if client.Timeout <= 0 { // nobody else ends the waiting: reading has no context
		client.Timeout = 10 * time.Second
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Get(from)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the address, which the caller knows
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("the server answers %d: %w", resp.StatusCode, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("the server answers more than %d bytes", maxFile)
	}
	return data, nil
}
