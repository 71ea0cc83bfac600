// The commands that produce each message of docs/operating/troubleshooting.md. They run in a directory with
// an empty directory `dir`, an empty `disk.raw` of 1 MiB, and `text.qcow2`, which is not a qcow2 image.

/** Starts nbdkit with these arguments on server.sock, and waits until it listens. Sets $S to its number. */
const serve = (words: string, options = ''): string =>
  `rm -f server.sock server.pid; nbdkit -f -U server.sock -P server.pid ${options} ${words} & S=$!
  while [ ! -s server.pid ]; do sleep 0.05; done`;

const KEYS = 'psktool -u alice -p keys.psk';
const PSK = '--tls=require --tls-psk=keys.psk';

/** Mounts on `dir` in the background, ready when this returns. Sets $N to its number. */
const mounted = (options: string, server: string): string =>
  `nbdfuse -P pid ${options} dir ${server} & N=$!
  while [ ! -s pid ]; do sleep 0.05; done`;

/** Waits for output of nbdfuse, whose standard error is the file `said`. */
const hears = (text: string): string => `while ! grep -q '${text}' said; do sleep 0.05; done`;

/** A disk of 4 MiB with a partition in a GPT, without the signatures at some bytes. */
const gptWithout = (disk: string, places: string): string =>
  `truncate -s 4M ${disk}; echo size=1M | sfdisk -q -X gpt ${disk}
  for at in ${places}; do printf XXX | dd of=${disk} bs=1 seek=$at conv=notrunc status=none; done`;

/** Serves `disk.raw` with a description by qemu-nbd on server.sock, and waits until it listens. Sets $S to its number. */
const describedAs = (text: string): string =>
  `rm -f server.sock server.pid
  qemu-nbd -f raw --persistent --shared=0 -D ${text} -k "$PWD/server.sock" --pid-file server.pid disk.raw & S=$!
  while [ ! -s server.pid ]; do sleep 0.05; done`;

/**
 * A server on TCP that answers the first WRITE when it has read its header. Segments are small, so that the client's
 * socket has no room for the payload.
 */
const HASTY = `use strict; use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die;
setsockopt($listener, 6, 2, pack('l', 536)) or die;
$listener->setsockopt(SOL_SOCKET, SO_RCVBUF, 4096) or die;
open(my $file, '>', 'port.new') or die; print $file $listener->sockport; close $file; rename 'port.new', 'port';
my $client = $listener->accept; close $listener; $client->autoflush(1);
sub take { my ($left, $all) = ($_[0], ''); while ($left > 0) { my $n = sysread($client, $all, $left, length $all);
  exit unless $n; $left -= $n } $all }
print $client 'NBDMAGIC', 'IHAVEOPT', pack('n', 3); take(4);
for (;;) { my ($option, $length) = unpack('x8NN', take(16)); take($length);
  my $reply = sub { print $client pack('Q>NNN', 0x3e889045565a9, $option, $_[0], length $_[1]), $_[1] };
  if ($option != 7) { $reply->(0x80000001, ''); next }
  $reply->(3, pack('nQ>n', 0, 1 << 24, 1)); $reply->(1, ''); last }
for (;;) { my ($type, $cookie, $offset, $length) = unpack('x6na8Q>N', take(28));
  print $client pack('NN', 0x67446698, 0), $cookie, $type == 0 ? "\\0" x $length : '';
  sleep 60 if $type == 1 }`;

/** Words for nbdkit: a disk that can be written and not read. */
const BROKEN = `eval get_size='echo 1M' pread='echo EIO no >&2; exit 1' pwrite='cat >/dev/null' \
  can_write='exit 0' can_flush='exit 0' flush='exit 0'`;

const OVER = 'umount dir; kill $S 2>/dev/null; wait';
const LOST = `${serve('memory 1M')}; ${mounted('--reconnect=1', '--unix server.sock')}
kill -9 $S; ${hears('fail with EIO')}; ${serve('memory 1M')}; ${hears('reconnected')}; ${OVER}`;
const KILLED = `nbdfuse --daemon -P pid dir --command nbdkit -s memory 1M
number=$(cat pid); kill -9 $number; while kill -0 $number 2>/dev/null; do sleep 0.05; done`;

/** Creates an encrypted image. Under load, QEMU cannot measure this machine at once. */
const SECRET = `printf key >key; until qemu-img create -q -f qcow2 --object secret,id=s,file=key \\
  -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 secret.qcow2 1M; do :; done`;

/** The beginning of a message, long enough to be unique, and the commands. */
export const CASES: Readonly<Record<string, string>> = {
  'no MOUNTPOINT given': 'nbdfuse',
  'no server given after MOUNTPOINT': 'nbdfuse dir',
  'no server given: nbdfuse --list': 'nbdfuse --list',
  'unknown option': 'nbdfuse --no-such',
  'option --readonly takes no value': 'nbdfuse --readonly=no dir nbd://localhost',
  '--unix must come after MOUNTPOINT': 'nbdfuse --unix server.sock dir',
  '--unix needs SOCKET': 'nbdfuse dir --unix',
  '[ CMD [ARGS ...] ] needs ]': 'nbdfuse dir [ nbdkit memory 1M',
  '--cache none-such': 'nbdfuse --cache=none-such dir nbd://localhost',
  '--connections 0': 'nbdfuse -C 0 dir nbd://localhost',
  '--watch needs': 'nbdfuse --watch dir',
  '--json needs': 'nbdfuse --json dir',
  '--daemon and --foreground': 'nbdfuse --daemon -f dir nbd://localhost',
  '--export cannot be used with a URI': 'nbdfuse --export=disk dir nbd://localhost',
  '--export cannot be used with an image': 'nbdfuse --export=disk dir disk.raw',
  '-o no_such: unknown option': 'nbdfuse -o no_such dir [ nbdkit null ]',
  'cannot mount: the limit': 'ulimit -n 32; nbdfuse dir [ nbdkit memory 1M ]',
  'cannot write the pidfile': 'nbdfuse -P /no/such/pid dir [ nbdkit memory 1M ]',
  'the current directory was deleted': 'mkdir gone; cd gone; rmdir ../gone; nbdfuse dir nbd://localhost',
  'n\\xffu.img: the name is not UTF-8': `nbdfuse dir "$(printf 'n\\377u.img')"`,
  'mountpoint new: there is no such': 'nbdfuse new nbd://localhost',
  'mountpoint dangling': 'ln -s nowhere dangling; nbdfuse dangling nbd://localhost',
  'mountpoint loop': 'ln -s loop loop; nbdfuse loop nbd://localhost',
  'mountpoint /dev': 'nbdfuse /dev nbd://localhost',
  // The process that asked may keep the mount busy for a moment longer.
  'dir does not answer': `nbdfuse --daemon -P pid dir [ nbdkit memory 1M ]; kill -STOP $(cat pid)
nbdfuse --status dir; kill -CONT $(cat pid); umount -l dir`,
  'mountpoint .: it covers': 'nbdfuse --restart . [ nbdkit file disk.raw ]',
  'mountpoint dir/new: the mount covers': `touch dir/other
nbdfuse --daemon dir/new [ nbdkit memory 1M ]; umount dir`,
  'mountpoint none/disk': 'nbdfuse none/disk nbd://localhost',
  'mountpoint disk.raw/': 'nbdfuse disk.raw/ nbd://localhost',
  'mountpoint pipe': 'mkfifo pipe; nbdfuse pipe nbd://localhost',
  'mountpoint dir: nbdfuse (fuse.nbdfuse)': `nbdfuse --daemon dir [ nbdkit memory 1M ]
nbdfuse dir [ nbdkit memory 1M ]; umount dir`,
  'dir: its nbdfuse is gone': `${KILLED}; nbdfuse --status dir; umount dir`,
  '/here/dir: removed the stale mount': `${KILLED}; nbdfuse --daemon dir [ nbdkit memory 1M ]; umount dir`,
  'no nbdfuse file system is mounted': 'nbdfuse --unmount dir',
  'nothing is mounted at dir': 'nbdfuse --status dir',
  'cannot serve metrics': 'nbdfuse --metrics=unix:disk.raw dir --command nbdkit -s memory 1M',
  'cannot unmount /here/dir: target is busy': `nbdfuse --daemon dir [ nbdkit memory 1M ]
exec 8<dir/nbd; nbdfuse --unmount dir; exec 8<&-; umount dir`,
  'mountpoint disk.raw: fuse-native': 'nbdfuse --fuse-backend=fuse-native disk.raw [ nbdkit memory 1M ]',
  'cannot mount dir with fuse-native': `root=$(dirname "$(dirname "$NBDFUSE")"); mkdir -p copy/node_modules
cp -r "$root/bin" "$root/dist" copy; ln -s "$root"/node_modules/*koffi* "$root"/node_modules/@koromix copy/node_modules/
"$NODE" copy/bin/nbdfuse --fuse-backend=fuse-native dir [ nbdkit memory 1M ]`,
  'cannot open /dev/fuse': `unshare -m sh -c 'mount -t tmpfs none /dev; mknod /dev/null c 1 3
"$NODE" "$NBDFUSE" dir --command nbdkit -s memory 1M'`,
  'cannot mount dir: there is no fusermount3': `mkdir bin; chown 65534:65534 . dir
for name in sh nbdkit rm rmdir sleep; do ln -s "$(command -v $name)" bin/$name; done
PATH=$PWD/bin "$SETPRIV" --reuid=65534 --regid=65534 --clear-groups \\
  "$NODE" "$NBDFUSE" dir --command nbdkit -s memory 1M`,
  'cannot connect to localhost:1': 'nbdfuse dir nbd://localhost:1',
  'cannot connect to socket none.sock': 'nbdfuse dir --unix none.sock',
  'cannot connect to socket disk.raw': 'nbdfuse dir --unix disk.raw',
  'cannot connect to socket @name': 'nbdfuse dir --unix @name',
  'cannot use descriptor 77': 'nbdfuse dir --fd 77',
  'bad NBD URI "nbd:///': 'nbdfuse dir nbd:///a%zz',
  'bad NBD URI "nbd:localhost': 'nbdfuse dir nbd:localhost:10809:exportname=disk',
  'cannot connect to [fe80::1]': "nbdfuse dir 'nbd://[fe80::1]'",
  'cannot start no-such-server': 'nbdfuse dir [ no-such-server ]',
  'nbdkit exited with status 1': 'nbdfuse dir [ nbdkit memory 1X ]',
  'this is not an NBD server': "nbdfuse dir --command sh -c 'echo hello there'",
  'cannot open export': `mkdir exports; ln disk.raw exports/disk
${serve('file dir=exports')}; nbdfuse dir 'nbd+unix:///nope?socket=server.sock'; kill $S`,
  'cannot talk to the server': `${KEYS}; ${serve('null', PSK)}; nbdfuse dir --unix server.sock; kill $S`,
  'cannot use TLS, and plain text': `${serve('null')}
nbdfuse dir 'nbds+unix:///?socket=server.sock'; kill $S`,
  'cannot use the TLS certificates': "nbdfuse dir 'nbds://localhost:1/?tls-certificates=none'",
  'cannot read the keys file': `${serve('null')}
nbdfuse dir 'nbds+unix://alice@/?socket=server.sock&tls-psk-file=none.psk'; kill $S`,
  'cannot find the user bob': `${KEYS}; ${serve('null', PSK)}
nbdfuse dir 'nbds+unix://bob@/?socket=server.sock&tls-psk-file=keys.psk'; kill $S`,
  'there is no file none.qcow2': 'nbdfuse dir none.qcow2',
  'dir is a directory': 'nbdfuse dir dir',
  'text.qcow2 should be': 'nbdfuse dir text.qcow2',
  'linked.qcow2 names': `qemu-img create -q -u -f qcow2 -F raw -b none.raw linked.qcow2 1M
nbdfuse dir linked.qcow2`,
  'far.qcow2 names': `qemu-img create -q -u -f qcow2 -F raw -b /dev/null far.qcow2 1M
nbdfuse dir far.qcow2`,
  'vmware.vmdk names': `printf '# Disk DescriptorFile\\nRW 8 FLAT "nbd:x" 0\\n' >vmware.vmdk
nbdfuse dir vmware.vmdk`,
  'short.qcow2 seems': `qemu-img create -q -f qcow2 short.qcow2 8M
qemu-io -c 'write 0 1M' short.qcow2 >/dev/null; truncate -s 600K short.qcow2
nbdfuse --daemon -r dir short.qcow2; umount dir`,
  'two.tar has several': 'tar -cf two.tar disk.raw text.qcow2; nbdfuse dir two.tar',
  'disk.raw.002 is a part':
    'split -n2 -da3 --numeric-suffixes=1 disk.raw disk.raw.; nbdfuse dir disk.raw.002',
  'the part after disk.raw.001': `split -n3 -da3 --numeric-suffixes=1 disk.raw disk.raw.; rm disk.raw.002
nbdfuse dir disk.raw.001`,
  'files.img is a 7z': `printf '7z\\274\\257\\047\\034' | cat - disk.raw >files.img
nbdfuse dir files.img`,
  'child.vhd holds': `(printf 'conectix%052d\\0\\0\\0\\004' 0; cat disk.raw) >child.vhd
nbdfuse dir child.vhd`,
  'part.vmdk is': `printf 'KDMV%01000d' 0 >part.vmdk; nbdfuse dir part.vmdk`,
  'cannot decode short.img.gz': 'gzip -c "$NBDFUSE" | head -c 100 >short.img.gz; nbdfuse dir short.img.gz',
  'cannot decode bad.img.gz': `(gzip -c disk.raw | head -c -8; printf 'checksum') >bad.img.gz; nbdfuse dir bad.img.gz`,
  'two.img.gz is': 'gzip -c disk.raw | gzip -c >two.img.gz; nbdfuse dir two.img.gz',
  'page.img.xz should': 'printf page >page.img.xz; nbdfuse dir page.img.xz',
  'cannot decode short.img.xz': 'xz -c "$NBDFUSE" | head -c 100 >short.img.xz; nbdfuse dir short.img.xz',
  '--format none': 'nbdfuse --format=none dir disk.raw',
  '--snapshot-name': 'nbdfuse --snapshot-name=old dir disk.raw',
  'secret.qcow2 is encrypted': `${SECRET}; nbdfuse dir secret.qcow2`,
  'the key in none.key': `${SECRET}; printf none >none.key; nbdfuse --key-file=none.key dir secret.qcow2`,
  'cannot read the key file': 'nbdfuse --key-file=none dir disk.raw',
  'disk.raw is not encrypted': 'printf key >key; nbdfuse --key-file=key dir disk.raw',
  '/here/disk.raw is in use': `nbdfuse --daemon dir disk.raw; mkdir two; nbdfuse two disk.raw; nbdfuse --unmount dir`,
  '/here/disk.qcow2 is in use': `qemu-img create -q -f qcow2 disk.qcow2 1M
qemu-nbd -f qcow2 -k "$PWD/server.sock" --pid-file server.pid disk.qcow2 & S=$!
while [ ! -s server.pid ]; do sleep 0.05; done; nbdfuse dir disk.qcow2; kill $S`,
  'the disk has no partition table': 'nbdfuse --partition 1 dir disk.raw',
  'the disk has an Apple': `printf 'PM' | dd of=disk.raw bs=512 seek=1 conv=notrunc status=none
nbdfuse --partition 1 dir disk.raw`,
  'partition 5 is not within': `truncate -s 8M disk.raw; printf 'start=64,size=9999,type=5\\nstart=99,size=4999\\n' | sfdisk -q disk.raw
truncate -s 1M disk.raw; ${mounted('--partitions', 'disk.raw')}; umount dir; wait`,
  'mountpoint dir/new: --partitions': 'nbdfuse --partitions dir/new disk.raw',
  '--partitions works with': 'nbdfuse --partitions --cache=writeback dir disk.raw',
  'partition 1 is extended': `printf 'start=64,size=999,type=5\\nstart=99,size=99\\n' | sfdisk -q disk.raw
nbdfuse --partition 1 dir disk.raw`,
  'the GPT at the beginning': `${gptWithout('disk.raw', '512')}; ${mounted('--partition 1', 'disk.raw')}
umount dir; wait`,
  'the GPT of the disk': `${gptWithout('disk.raw', '512 4193792')}; nbdfuse --partition 1 dir disk.raw`,
  'mountpoint dir/new: --all': "nbdfuse --all dir/new 'nbd+unix:///?socket=server.sock'",
  '--all shows every export': "nbdfuse --all dir 'nbd+unix:///disk?socket=server.sock'",
  'dir: cannot list the exports': `mkdir exports; ln disk.raw exports/disk; ${serve('file dir=exports')}
${mounted('--all', '--unix server.sock')}; kill -9 $S; sleep 1.1; ls dir; ${hears('cannot list')}; umount dir; wait`,
  'dir/nbd: the server is lost: the server closed': LOST,
  'dir/nbd: reconnected after': LOST,
  'dir/nbd: no server for 1 s': LOST,
  'dir/nbd: the server came back with another export: the size is 2097152': `${serve('memory 1M')}
${mounted('', '--unix server.sock')}; kill -9 $S; ${serve('memory 2M')}; ${hears('another export')}
umount -l dir; kill $S; kill $N; wait`,
  'dir/nbd: the server came back with another export: the description': `${describedAs('one')}
${mounted('', '--unix server.sock')}; kill -9 $S; ${describedAs('two')}; ${hears('another export')}
umount -l dir; kill $S; kill $N; wait`,
  'dir/nbd: the server came back with another disk: the bytes': `yes | head -c 1M >one.raw; yes no | head -c 1M >two.raw
${serve('file one.raw')}; ${mounted('', '--unix server.sock')}; head -c 4096 dir/nbd >copy; kill -9 $S
${serve('file two.raw')}; ${hears('with another disk')}; umount -l dir; kill $S; kill $N; wait`,
  'dir/nbd: the server came back with another disk: nbdfuse cannot': `${serve(BROKEN)}
${mounted('--cache=none', '--unix server.sock')}; dd if=/dev/zero of=dir/nbd bs=4k count=1 conv=notrunc; kill -9 $S
${serve(BROKEN)}; ${hears('cannot exclude')}; umount -l dir; kill $S; kill $N; wait`,
  'dir/nbd: the server is lost: the server answered': `perl -e '${HASTY.replaceAll("'", `'\\''`)}' & S=$!
while [ ! -s port ]; do sleep 0.05; done; ${mounted('--reconnect=0 --cache=none', '--tcp 127.0.0.1 $(cat port)')}
dd if=/dev/zero of=dir/nbd bs=1M count=1 oflag=direct conv=notrunc; ${OVER}`,
  'dir/nbd: the server is lost: nbdkit was killed': `${mounted('', '--command nbdkit -s -P nbdkit.pid memory 1M')}
kill -9 $(cat nbdkit.pid); ${hears('from now on')}; umount dir; wait`,
};

/** Messages that another test produces and quotes word for word, because they take long. */
export const ELSEWHERE: Readonly<Record<string, string>> = {
  // It waits for 30 seconds.
  'nbd: writes to the bytes': 'reliability/older-change',
  // They need a web server that breaks a rule.
  'https://host/disk.img: the web server': 'real/image-web',
  'cannot read https://host/disk.img': 'real/image-web',
};
