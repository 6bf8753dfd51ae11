r"""The quick way of a plain DEL of phalanx-bridge: Perl starts in a sixth of Python's time.

It serves a DEL whose lease is phalanx-ipam's own, of a container that has no
rules: it removes the link, then the lease. All else (another command, rules,
another IPAM plugin, a virtual network, a text that is not plain, anything that
is refused) it leaves to the Python plugin, which it becomes; what was done by
then is no hindrance, as DEL may be repeated. Perl's core only, as the launcher.
"""

import os
from collections.abc import Mapping

from phalanx.cni.launcher import BECOME, PERL, leave

TEXT = r"""#!{perl}
# A plain DEL is done here; everything else is the Python plugin's, which this becomes. See
# docs/design/cni.md.
my $text = do { local $/; <STDIN> } // '';
my ($command, $container, $ifname, $netns, $path, $arguments)
    = map { $ENV{"CNI_$_"} // '' } qw(COMMAND CONTAINERID IFNAME NETNS PATH ARGS);
become() unless $command eq 'DEL' && length $path && length $text < 60000;
become() unless $container =~ /^[A-Za-z0-9][A-Za-z0-9_.-]{0,999}\z/;
become() unless $ifname =~ /^[!-.0-9;-~]{1,15}\z/ && $ifname !~ /^\.\.?\z/;
become() if length $arguments && grep { tr/=// != 1 } split /;/, $arguments, -1;
my ($there, $here) = map { join ':', (stat $_)[0, 1] } $netns, '/proc/self/ns/net';
become() if $there eq $here;
become() if $text =~ /[^\x09\x0a\x0d\x20-\x5b\x5d-\x7e]/;
my $config = value();
become() unless ref $config eq 'HASH' && $text =~ /\G[ \t\r\n]*\z/gc;
my ($name, $type, $ipam, $version) = @$config{qw(name type ipam cniVersion)};
become() unless defined $name && !ref $name && $name =~ /^[A-Za-z0-9][A-Za-z0-9_.-]*\z/;
become() unless defined $type && !ref $type && ref $ipam eq 'HASH';
become() unless !defined $version || $version =~ /^(?:0\.[1-4]\.0|0\.3\.1|1\.[01]\.0)\z/;
become() unless ($ipam->{type} // '') eq 'phalanx-ipam' && !exists $ipam->{network};
my $directory = exists $ipam->{dataDir} ? $ipam->{dataDir} : '/var/lib/cni/networks';
become() if ref $directory || !length $directory;
for my $key (qw(runtimeConfig args prevResult)) {
    become() if exists $config->{$key} && ref $config->{$key} ne 'HASH';
}
become() if exists $config->{args}{cni} && ref $config->{args}{cni} ne 'HASH';

my $owner = "$container:$ifname";
if (opendir my $spaces, '/run/phalanx/cni') {
    my $kept = "$name/" . sha1("$owner $type");
    -e "/run/phalanx/cni/$_/$kept" and become() for grep { !/^\./ } readdir $spaces;
}
my $link = 'phxb' . substr(sha1($owner), 0, 10);
my $request = pack('CxSlLL', 0, 0, 0, 0, 0) . pack('SSa*x', 5 + length $link, 3, $link);
$request .= "\0" x (-length($request) % 4);
socket(my $netlink, 16, 3, 0) or become();
syswrite $netlink, pack('LSSLL', 16 + length $request, 17, 5, 1, 0) . $request or become();
sysread($netlink, my $answer, 8192) or become();
my ($kind, $number) = unpack 'x4Sx10l', $answer;
become() unless $kind == 2 && ($number == 0 || $number == -19);

my $place = "$directory/$name";
{leave} unless -e $place;
sysopen(my $lock, "$place/lock", 0102, 0600) or become();
flock($lock, 2) or become();
become() unless slurp('/proc/sys/kernel/random/boot_id') eq slurp("$place/boot");
opendir(my $leases, $place) or become();
for my $lease (own($place, grep { !/^[l.]|^boot\z/ } readdir $leases)) {
    unlink "$place/$lease" or become();
}
{leave};

# The next value of the configuration: a text as it is, all else as a reference.
sub value {
    return $1 if $text =~ /\G[ \t\r\n]*"([^"\t\r\n]*)"/gc;
    if ($text =~ /\G[ \t\r\n]*\{[ \t\r\n]*/gc) {
        my %found;
        return \%found if $text =~ /\G\}/gc;
        do {
            $text =~ /\G[ \t\r\n]*"([^"\t\r\n]*)"[ \t\r\n]*:/gc or become();
            my $key = $1;
            become() if exists $found{$key};
            $found{$key} = value();
        } while $text =~ /\G[ \t\r\n]*,/gc;
        return $text =~ /\G[ \t\r\n]*\}/gc ? \%found : become();
    }
    if ($text =~ /\G[ \t\r\n]*\[[ \t\r\n]*/gc) {
        my @found;
        return \@found if $text =~ /\G\]/gc;
        do { push @found, value() } while $text =~ /\G[ \t\r\n]*,/gc;
        return $text =~ /\G[ \t\r\n]*\]/gc ? \@found : become();
    }
    $text =~ /\G[ \t\r\n]*(-?(?:0|[1-9][0-9]*)|true|false|null)(?![0-9A-Za-z.+-])/gc or become();
    return \"$1";
}

# Those of the names of leases that are the container's; there may be hundreds to read.
sub own {
    my $place = shift;
    return grep {
        my $found = '';
        sysopen(LEASE, "$place/$_", 0) && sysread LEASE, $found, 8192;
        my ($whose, $which) = index($found, $container) < 0 ? ()
            : map { s/^\s+|\s+$//gr } split /\r\n/, $found, 2;
        defined $whose && $whose eq $container && ($which // '') =~ /^(?:\Q$ifname\E)?\z/;
    } @_;
}

sub slurp {
    open(my $file, '<', $_[0]) or return '';
    local $/;
    my $found = <$file> // '';
    $found =~ s/\s+\z//;
    return $found;
}

# FIPS 180-4; the module of Perl takes four times as long to load as this needs.
sub sha1 {
    my @h = (0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);
    my $padded = "$_[0]\x80";
    $padded .= "\0" x ((56 - length $padded) % 64) . pack('N2', 0, 8 * length $_[0]);
    for my $block (unpack '(a64)*', $padded) {
        my @w = unpack 'N16', $block;
        for my $i (16 .. 79) {
            my $x = $w[$i - 3] ^ $w[$i - 8] ^ $w[$i - 14] ^ $w[$i - 16];
            push @w, ($x << 1 | $x >> 31) & 0xffffffff;
        }
        my ($a, $b, $c, $d, $e) = @h;
        for my $i (0 .. 79) {
            my $f = $i < 20 ? ($b & $c | ~$b & $d) + 0x5a827999
                : $i < 40 ? ($b ^ $c ^ $d) + 0x6ed9eba1
                : $i < 60 ? ($b & $c | $b & $d | $c & $d) + 0x8f1bbcdc
                :           ($b ^ $c ^ $d) + 0xca62c1d6;
            my $next = (($a << 5 | $a >> 27) & 0xffffffff) + ($f & 0xffffffff) + $e + $w[$i];
            my $turned = ($b << 30 | $b >> 2) & 0xffffffff;
            ($a, $b, $c, $d, $e) = ($next & 0xffffffff, $a, $turned, $c, $d);
        }
        my @more = ($a, $b, $c, $d, $e);
        $h[$_] = ($h[$_] + $more[$_]) & 0xffffffff for 0 .. 4;
    }
    return join '', map { sprintf '%08x', $_ } @h;
}

""" + BECOME.replace("{input}", "$text")


CHOICE = """\
#!{perl}
my $quick = {{{files}}}->{{$ENV{{CNI_COMMAND}} // ''}} // '';
do $quick if -e $quick;
exec {{ '{plugin}' }} '{plugin}' or die '{plugin}', ": $!";
"""


def filled(text: str, plugin: str) -> str:
    """Return a text in Perl with its places filled in."""
    return text.replace("{perl}", PERL).replace("{plugin}", plugin).replace("{leave}", leave())


def quick_delete(plugin: str) -> str:
    """Return the text of the quick DEL in front of *plugin*, "" where there is no Perl."""
    if not os.access(PERL, os.X_OK):
        return ""
    return filled(TEXT, plugin)


def choice(plugin: str, files: Mapping[str, str]) -> str:
    """Return the text of what runs the file of a command, *plugin* where there is none."""
    listed = ", ".join(f"{command} => '{path}'" for command, path in files.items())
    return CHOICE.format(perl=PERL, files=listed, plugin=plugin)
