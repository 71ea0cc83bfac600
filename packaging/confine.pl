#!/usr/bin/perl
# Runs a program that can open nothing but its own files: a server of disk images, which may come from a stranger.
#
#   perl confine.pl [-r FILE] [-w FILE] [-t] [-s] [-n] -- PROGRAM [ARGS ...]
#
#   -r FILE   may be read            -w FILE   may be read and written
#   -t        gets a directory of its own for temporary files (TMPDIR), which is removed when the program has ended
#   -s        may make directories with sockets in /tmp, as `nbdkit -U -` does, in $RUNTIME_DIRECTORY and in the directory
#             of -t, and sockets beside descriptor 3
#   -p        is a program of nbdfuse: may read the files of nbdfuse, and run node, wherever they are
#   -n        may use TCP
#
# Programs and libraries of the system can be read and run; that is all. Made of Landlock(7), which needs no
# privilege. Where the kernel has none, the program runs without. Perl, since it is there on most systems, makes
# any system call, and starts in 4 ms. No modules: within another sandbox, those of the user cannot be read. Called by nbdfuse with the command lines of src/image/plan.ts.

# Numbers since Linux 5.13 are the same for all processors; that of prctl(2) is older.
my ($CREATE_RULESET, $ADD_RULE, $RESTRICT_SELF) = (444, 445, 446);
my ($O_PATH, $O_CLOEXEC) = (010000000, 02000000);
my ($PR_SET_NO_NEW_PRIVS, $VERSION, $PATH_BENEATH) = (38, 1, 1);

# Rights of Landlock, by the version of its ABI that has them.
my ($EXECUTE, $WRITE, $READ, $LIST) = (1 << 0, 1 << 1, 1 << 2, 1 << 3);
my ($REMOVE_DIR, $REMOVE, $MAKE_DIR, $MAKE_FILE, $MAKE_SOCKET) = (1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 9);
my ($TRUNCATE, $IOCTL) = (1 << 14, 1 << 15);
my @ALL = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1);
my ($TCP, $SCOPES) = (3, 3);

my $PROGRAMS = [qw(/usr /lib /lib32 /lib64 /libx32 /bin /sbin /nix/store /gnu/store)];
my $SETTINGS = [
  qw(/etc/ld.so.cache /etc/ld.so.preload /etc/localtime /etc/gnutls /etc/crypto-policies /etc/ssl/openssl.cnf),
  qw(/sys/devices/system),
];
my $DEVICES = [qw(/dev/null /dev/zero /dev/random /dev/urandom)];
my $NAMES = [
  qw(/etc/hosts /etc/host.conf /etc/resolv.conf /etc/nsswitch.conf /etc/gai.conf /etc/services),
  qw(/run/systemd/resolve /run/NetworkManager/resolv.conf),
];

# The program that runs node, and the files of nbdfuse and of the packages that it uses.
sub program {
  my ($node) = @_;
  (my $root = $0) =~ s{/[^/]*/[^/]*$}{};
  # npm puts packages into the directory of nbdfuse, or beside it.
  my @packages = map { ("$_/koffi", "$_/\@koromix") } "$root/node_modules", "$root/..";
  return ([$READ | $EXECUTE, [$node]], [$READ, ["$root/bin", "$root/dist", @packages]]);
}

# Where directories with sockets are made: /tmp, and the directory that systemd gives the unit.
sub socket_bases {
  my ($own) = grep { m{^/} } split /:/, $ENV{RUNTIME_DIRECTORY} // '';
  return ($own // (), '/tmp');
}

# The directory of the listening socket.
sub socket_directory {
  open my $socket, '<&=', 3 or return ();
  # F_SETFD: the program inherits it. Kept: perl closes it with its variable.
  fcntl $socket, 2, 0;
  our $listens = $socket;
  my (undef, $path) = unpack 'S Z*', getsockname($socket) // return ();
  return $path =~ m{^(/.*)/} ? ($1) : ();
}

sub fail { print STDERR "nbdfuse: server sandbox: $_[0]: $!\n"; exit 1 }

# By the processor that perl itself was built for, which the header of its ELF file names.
my %PRCTL = (
  '64 bits of 62' => 157, '64 bits of 183' => 167, '64 bits of 243' => 167, '64 bits of 258' => 167,
  '32 bits of 3' => 172, '32 bits of 40' => 172, '64 bits of 22' => 172, '64 bits of 21' => 171,
);

sub prctl_number {
  open my $self, '<', $^X or return;
  binmode $self;
  read $self, my $head, 20;
  my ($magic, $class, $order) = unpack 'a4CC', $head;
  my $machine = unpack $order == 1 ? 'v' : 'n', substr $head, 18, 2;
  return $magic eq "\x7fELF" ? $PRCTL{ 32 * $class . " bits of $machine" } : undef;
}

# A directory that is removed when nobody holds the pipe any more, which the program inherits.
sub temporary_directory {
  open my $random, '<', '/dev/urandom' or fail('/dev/urandom');
  read $random, my $bytes, 8;
  my $name = 'nbdfuse-' . unpack 'H*', $bytes;
  pipe my $end, my $kept or fail('pipe');
  my @bases = ($ENV{TMPDIR} || (), '/var/tmp', '/tmp');
  my $directory;
  for my $i (0 .. $#bases) {
    $directory = "$bases[$i]/$name";
    last if mkdir $directory, 0700;
    $i == $#bases and fail("cannot make a directory in $bases[0], /var/tmp or /tmp");
  }
  my $child = fork // fail('fork');
  if ($child == 0) {
    # An orphan at once, so that the program gets no child that it does not know.
    my $orphan = fork;
    exit 0 if $orphan != 0 || !defined $orphan;
    $SIG{$_} = 'IGNORE' for qw(TERM INT HUP);
    close $kept;
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    open STDERR, '>', '/dev/null';
    # The listening socket must end with the program.
    if (open my $socket, '<&=', 3) { close $socket }
    1 while sysread $end, my $byte, 1;
    opendir my $left, $directory;
    unlink map { "$directory/$_" } readdir $left;
    rmdir $directory;
    exit 0;
  }
  waitpid $child, 0;
  close $end;
  # F_SETFD: not closed by exec.
  fcntl $kept, 2, 0;
  # Nobody closes it before exec.
  our $lives = $kept;
  return $ENV{TMPDIR} = $directory;
}

sub allow {
  my ($ruleset, $all, $path, $rights) = @_;
  # A path that does not exist needs no rule.
  sysopen my $file, $path, $O_PATH | $O_CLOEXEC or return;
  my $of_files = $EXECUTE | $WRITE | $READ | $TRUNCATE | $IOCTL;
  my $rule = pack 'Ql', $rights & $all & (-d $file ? ~0 : $of_files), fileno $file;
  syscall($ADD_RULE, $ruleset, $PATH_BENEATH, $rule, 0) == 0 or fail("rule for $path");
}

sub confine {
  my ($abi, %given) = @_;
  my $prctl = prctl_number() or return;
  my $all = $ALL[$abi > 5 ? 5 : $abi];
  my $attributes = pack 'QQQ', $all, ($given{n} ? 0 : $TCP), $SCOPES;
  my $size = $abi < 4 ? 8 : $abi < 6 ? 16 : 24;
  my $ruleset = syscall($CREATE_RULESET, $attributes, $size, 0);
  $ruleset >= 0 or fail('landlock_create_ruleset');
  my $read = $READ | $LIST;
  my $write = $READ | $WRITE | $TRUNCATE | $IOCTL;
  my @rules = (
    [$read | $EXECUTE, $PROGRAMS],
    [$read, $SETTINGS],
    [$write, $DEVICES],
    [$read, $given{n} ? $NAMES : []],
    # QEMU gets the size of a block device by ioctl(2).
    [$READ | $IOCTL, $given{r}],
    [$write, $given{w}],
    [
      $write | $LIST | $MAKE_FILE | $MAKE_DIR | $REMOVE | $REMOVE_DIR | ($given{s} ? $MAKE_SOCKET : 0),
      $given{t} ? [temporary_directory()] : [],
    ],
    [$MAKE_DIR | $MAKE_SOCKET | $REMOVE | $REMOVE_DIR, $given{s} ? [socket_bases(), socket_directory()] : []],
    $given{p} ? program($ARGV[0]) : (),
  );
  for my $rule (@rules) { allow($ruleset, $all, $_, $rule->[0]) for @{ $rule->[1] } }
  syscall($prctl, $PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 or fail('prctl');
  syscall($RESTRICT_SELF, $ruleset, 0) == 0 or fail('landlock_restrict_self');
}

# The user's variables would make perl load code here, before the sandbox is in force.
delete @ENV{qw(PERL5OPT PERL5LIB)};
# A chunk server in the sandbox cannot read the certificates of this variable, and Node.js would complain.
delete $ENV{NODE_EXTRA_CA_CERTS};
my %given = (r => [], w => []);
while (@ARGV) {
  my $word = shift @ARGV;
  last if $word eq '--';
  if ($word =~ /^-([rw])$/) { push @{ $given{$1} }, shift @ARGV }
  elsif ($word =~ /^-([tsnp])$/) { $given{$1} = 1 }
  else { print STDERR "nbdfuse: server sandbox: unknown option $word\n"; exit 1 }
}
# node would read files that these name.
delete $ENV{NODE_OPTIONS} if $given{p};
my $abi = syscall($CREATE_RULESET, 0, 0, $VERSION);
confine($abi, %given) if $abi > 0;
exec { $ARGV[0] } @ARGV or fail("cannot run $ARGV[0]");
