# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetches Debian packages through a private apt configuration.

Owns: reading the machine's own apt sources, deriving others from them (source packages, other
suites), and downloading under .cache. Refuses to know what a package is for. Nothing under /etc is
ever written, and no mirror is named here: the machine's own mirror and keyrings are used, whatever
they are.
"""

import glob
import os
import re
import shutil
import subprocess


class AptError(Exception):
    """A download that cannot be done; the text says what to do."""


class Source:
    """One apt source: where it is, which suites, and how it is signed."""

    def __init__(self, uris, suites, components, options):
        self.uris = uris
        self.suites = suites
        self.components = components
        self.options = options  # [(deb822 name, value)], such as Signed-By


# One-line options and their deb822 names; only what decides whether and how a repository may be
# used.
ONE_LINE_OPTIONS = {
    'signed-by': 'Signed-By',
    'trusted': 'Trusted',
    'check-valid-until': 'Check-Valid-Until',
}


def parse_one_line(text):
    """Read the `deb [options] uri suite component...` format."""
    sources = []
    for line in text.splitlines():
        line = line.split('#', 1)[0].strip()
        match = re.match(r'deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)$', line)
        if not match:
            continue
        options = []
        for word in (match.group(1) or '').split():
            name, _, value = word.partition('=')
            if name.lower() in ONE_LINE_OPTIONS:
                options.append((ONE_LINE_OPTIONS[name.lower()], value))
        sources.append(Source([match.group(2)], [match.group(3)], match.group(4).split(), options))
    return sources


def parse_deb822(text):
    """Read the deb822 format: stanzas of `Name: value`, continued by indentation."""
    sources = []
    for stanza in re.split(r'\n(?:[ \t]*\n)+', text):
        fields = {}
        name = None
        for line in stanza.splitlines():
            if line.startswith('#'):
                continue
            if line[:1] in ' \t' and name:
                fields[name] += '\n' + line
            elif ':' in line:
                name, _, value = line.partition(':')
                name = name.strip().lower()
                fields[name] = value.strip()
        if 'deb' not in fields.get('types', '').split():
            continue
        if fields.get('enabled', 'yes').lower() in ('no', 'false', '0'):
            continue
        options = [
            (label, fields[label.lower()])
            for label in ONE_LINE_OPTIONS.values()
            if label.lower() in fields
        ]
        sources.append(
            Source(
                fields.get('uris', '').split(),
                fields.get('suites', '').split(),
                fields.get('components', '').split(),
                options,
            )
        )
    return sources


def machine_sources():
    """The machine's own Debian sources, the ones that carry its release's suites."""
    sources = []
    files = ['/etc/apt/sources.list'] + sorted(glob.glob('/etc/apt/sources.list.d/*'))
    for path in files:
        try:
            with open(path, encoding='utf-8', errors='replace') as stream:
                text = stream.read()
        except OSError:
            continue
        if path.endswith('.list'):
            sources += parse_one_line(text)
        elif path.endswith('.sources'):
            sources += parse_deb822(text)
    own = release_codename()
    return [s for s in sources if any(suite_of(suite, own) is not None for suite in s.suites)]


def release_codename():
    """This machine's Debian codename, such as bookworm."""
    try:
        with open('/etc/os-release', encoding='utf-8') as stream:
            match = re.search(r'^VERSION_CODENAME="?([a-z]+)', stream.read(), re.MULTILINE)
    except OSError:
        match = None
    if not match:
        raise AptError('/etc/os-release names no release: this needs Debian 12 or 13')
    return match.group(1)


def suite_of(suite, own):
    """What follows the codename in a suite of the machine's own release: '', '-updates', ...; else
    None.
    """
    if suite == own or suite.startswith(own + '-'):
        return suite[len(own) :]
    return None


class Apt:
    """apt with its own lists, cache and sources for the suites of one codename.

    `suite` is a codename ('bookworm') or one suite ('bookworm-backports'); a codename takes its
    updates and security suites with it where the machine has them for its own release.
    """

    def __init__(self, directory, suite):
        self.directory = os.path.join(directory, suite)
        self.suite = suite
        self.updated = False

    def write_config(self):
        own = release_codename()
        wanted = []
        for source in machine_sources():
            suffixes = [suite_of(s, own) for s in source.suites]
            suffixes = [s for s in suffixes if s in ('', '-updates', '-security')]
            if '-' in self.suite:
                # One named suite lives where the release itself lives.
                suites = [self.suite] if '' in suffixes else []
            else:
                suites = [self.suite + s for s in suffixes]
            if suites:
                wanted.append(Source(source.uris, suites, source.components, source.options))
        if not wanted:
            raise AptError(
                'no apt source of this machine carries %s: add one to /etc/apt/sources.list' % own
            )
        for sub in ('parts', 'lists/partial', 'cache/archives/partial'):
            os.makedirs(os.path.join(self.directory, sub), exist_ok=True)
        with open(
            os.path.join(self.directory, 'parts', 'vgpu.sources'), 'w', encoding='utf-8'
        ) as out:
            for source in wanted:
                out.write(
                    'Types: deb deb-src\nURIs: %s\nSuites: %s\n'
                    % (' '.join(source.uris), ' '.join(source.suites))
                )
                if source.components:
                    out.write('Components: %s\n' % ' '.join(source.components))
                for name, value in source.options:
                    out.write('%s: %s\n' % (name, value))
                out.write('\n')
        with open(os.path.join(self.directory, 'apt.conf'), 'w', encoding='utf-8') as out:
            out.write('Dir::Etc::sourcelist "/dev/null";\n')
            out.write('Dir::Etc::sourceparts "%s/parts";\n' % self.directory)
            out.write('Dir::Etc::preferencesparts "/dev/null";\n')
            out.write('Dir::State::lists "%s/lists";\n' % self.directory)
            out.write('Dir::Cache "%s/cache";\n' % self.directory)
            # An older release's lists are past their date by design.
            out.write('Acquire::Check-Valid-Until "false";\n')
            out.write('Acquire::Retries "3";\n')
            # The cache belongs to whoever builds; apt's own user may be unable to enter it.
            out.write('APT::Sandbox::User "root";\n')

    def run(self, args, cwd=None):
        """Run an apt command; its standard output, or an AptError with what it said."""
        env = dict(
            os.environ, APT_CONFIG=os.path.join(self.directory, 'apt.conf'), LC_ALL='C.UTF-8'
        )
        result = subprocess.run(
            args,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        if result.returncode != 0:
            said = [
                line for line in result.stderr.splitlines() if line.startswith(('E:', 'W:', 'Err:'))
            ]
            raise AptError(
                '%s failed: %s' % (' '.join(args), ' '.join(said) or result.stderr.strip())
            )
        return result.stdout

    def update(self):
        """Fetch the lists, once per process."""
        if not self.updated:
            self.write_config()
            # A suite may have no security or updates part any more; what is wanted is checked for
            # afterwards.
            try:
                self.run(['apt-get', 'update', '-qq'])
            except AptError as error:
                if not glob.glob(os.path.join(self.directory, 'lists', '*_Sources*')):
                    raise AptError(
                        'cannot read the package lists of %s (is the network up?): %s'
                        % (self.suite, error)
                    )
            self.updated = True

    def source_version(self, package):
        """The newest version of a source package, or None."""
        self.update()
        try:
            text = self.run(['apt-cache', 'showsrc', '--only-source', package])
        except AptError:
            return None
        versions = re.findall(r'^Version: (\S+)', text, re.MULTILINE)
        best = None
        for version in versions:
            if (
                best is None
                or subprocess.call(['dpkg', '--compare-versions', version, 'gt', best]) == 0
            ):
                best = version
        return best

    def unpack_source(self, package, version, target):
        """Download, verify and unpack a source package; `target` becomes its tree."""
        self.update()
        work = target + '.part'
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        self.run(['apt-get', 'source', '-qq', '%s=%s' % (package, version)], cwd=work)
        trees = [e.path for e in os.scandir(work) if e.is_dir()]
        if len(trees) != 1:
            raise AptError(
                'source package %s %s unpacked into %d folders' % (package, version, len(trees))
            )
        shutil.rmtree(target, ignore_errors=True)
        os.rename(trees[0], target)
        shutil.rmtree(work)

    def unpack_binary(self, package, target):
        """Download a binary package and unpack it below `target`, without installing it."""
        self.update()
        work = target + '.part'
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        self.run(['apt-get', 'download', '-qq', package], cwd=work)
        debs = glob.glob(os.path.join(glob.escape(work), '*.deb'))
        if len(debs) != 1:
            raise AptError('apt-get download %s brought %d packages' % (package, len(debs)))
        subprocess.run(['dpkg-deb', '-x', debs[0], os.path.join(work, 'x')], check=True)
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(os.path.join(work, 'x'), target)
        shutil.rmtree(work)
