r"""The quick way of a plain ADD of phalanx-bridge, in Perl, as `phalanx.cni.quick` has that of DEL.

It serves an ADD of one IPv4 address out of one subnet, onto a bridge that
stands with its gateway: all but the first of a network. The configuration may
hold what `KEYS` names and no more. All else, and whatever is refused on the
way, it leaves to the Python plugin, which it becomes after it has taken its
link away; a lease that it leaves is taken over, as from an ADD that died.
"""

import os
import platform

from phalanx.cni.launcher import PERL
from phalanx.cni.quick import TEXT as DELETE
from phalanx.cni.quick import filled

# Of the system call setns, which Perl's core knows by its number alone.
SETNS = {"x86_64": 308, "aarch64": 268, "riscv64": 268, "loongarch64": 268, "ppc64le": 350}
COMMON = DELETE[DELETE.index("# The next value of the configuration") :]

TEXT = r"""#!{perl}
# A plain ADD is done here; everything else is the Python plugin's, which this becomes. See
# docs/design/cni.md.
my $text = do { local $/; <STDIN> } // '';
my ($command, $container, $ifname, $netns, $path, $arguments)
    = map { $ENV{"CNI_$_"} // '' } qw(COMMAND CONTAINERID IFNAME NETNS PATH ARGS);
become() unless $command eq 'ADD' && length $path && !length $arguments && length $text < 60000;
become() unless $container =~ /^[A-Za-z0-9][A-Za-z0-9_.-]{0,999}\z/;
become() unless $ifname =~ /^[A-Za-z0-9_-]{1,15}\z/ && $netns =~ m{^[!#-\[\]-~]+\z};
become() if $text =~ /[^\x09\x0a\x0d\x20-\x5b\x5d-\x7e]/;
my $config = value();
become() unless ref $config eq 'HASH' && $text =~ /\G[ \t\r\n]*\z/gc;
my %known = map { $_ => 1 }
    qw(cniVersion name type bridge isGateway isDefaultGateway hairpinMode mtu ipam capabilities);
$known{$_} or become() for keys %$config;
my ($name, $bridge, $ipam, $version) = @$config{qw(name bridge ipam cniVersion)};
become() unless defined $name && !ref $name && $name =~ /^[A-Za-z0-9][A-Za-z0-9_.-]*\z/;
become() unless ($bridge //= 'cni0') =~ /^[A-Za-z0-9_-]{1,15}\z/;
become() unless ($version // '') =~ /^1\.[01]\.0\z/;
my $is_default = flag('isDefaultGateway');
become() unless flag('isGateway') || $is_default;
my $mtu = defined $config->{mtu} ? ref $config->{mtu} eq 'SCALAR' ? ${$config->{mtu}} : '' : 0;
become() unless $mtu =~ /^[0-9]{1,5}\z/ && $mtu < 65536;
become() unless ref $ipam eq 'HASH' && ($ipam->{type} // '') eq 'phalanx-ipam';
/^(?:type|dataDir|subnet|ranges)\z/ or become() for keys %$ipam;
my $directory = exists $ipam->{dataDir} ? $ipam->{dataDir} : '/var/lib/cni/networks';
become() if ref $directory || !length $directory;
become() if exists $ipam->{subnet} == exists $ipam->{ranges};
my $range = $ipam;
if (my $ranges = $ipam->{ranges}) {
    become() unless ref $ranges eq 'ARRAY' && @$ranges == 1 && ref $ranges->[0] eq 'ARRAY';
    $range = $ranges->[0][0];
    become() unless @{$ranges->[0]} == 1 && ref $range eq 'HASH';
    become() unless join(' ', keys %$range) eq 'subnet';
}
my $byte = '(0|[1-9][0-9]{0,2})';
my ($length, @bytes) = reverse(($range->{subnet} // '') =~ m{^$byte\.$byte\.$byte\.$byte/$byte\z});
become() unless @bytes == 4 && $length >= 8 && $length <= 30 && !grep { $_ > 255 } @bytes;
my $subnet = unpack 'N', pack 'C4', reverse @bytes;
my $hosts = (1 << 32 - $length) - 1;
become() if $subnet & $hosts;
my ($gateway, $first, $last) = ($subnet + 1, $subnet + 2, $subnet + $hosts - 1);
become() unless slurp('/proc/sys/net/ipv4/ip_forward') eq '1';

# Both namespaces, and what is in them already.
open(my $there, '<', $netns) or become();
open(my $home, '<', '/proc/self/ns/net') or become();
become() if join(':', (stat $there)[0, 1]) eq join(':', (stat $home)[0, 1]);
my $node = netlink() or become();
become() if syscall({setns}, fileno $there, 0x40000000);
my $inside = netlink();
if (syscall {setns}, fileno $home, 0x40000000) {  # the plugin would take the container for the node
    print qq({"cniVersion": "$version", "code": 100, )
        . qq("msg": "back to the node's network namespace: $!"}\n);
    exit 1;
}
become() unless $inside;
my ($sequence, $owner) = (0, "$container:$ifname");
my $veth = 'phxb' . substr(sha1($owner), 0, 10);
become() if defined link_of($inside, $ifname) || defined link_of($node, $veth);
my $router = link_of($node, $bridge) or become();
my ($index, $flags) = unpack 'x4lL', $router;
my %router = attributes($router, 16);
my %kind = attributes($router{18} // '', 0);
become() unless ($kind{1} // '') eq "bridge\0" && $flags & 1;
my ($bridge_mac, $bridge_mtu) = (mac($router{1}), unpack 'L', $router{4});
my $packed = pack 'N', $gateway;
become() unless grep {
    my %address = attributes($_, 8);
    unpack('xC', $_) == $length && ($address{2} // $address{1} // '') eq $packed
} dump_addresses($index);

# The lease.
my $place = "$directory/$name";
sysopen(my $lock, "$place/lock", 0102, 0600) or become();
flock($lock, 2) or become();
become() unless slurp('/proc/sys/kernel/random/boot_id') eq slurp("$place/boot");
opendir(my $leases, $place) or become();
my %taken = map { $_ => 1 } grep { !/^[l.]|^boot\z/ } readdir $leases;
become() if own($place, keys %taken);
my $before = slurp("$place/last_reserved_ip.0");
my $from = $before =~ /^$byte\.$byte\.$byte\.$byte\z/ ? unpack 'N', pack 'C4', $1, $2, $3, $4 : 0;
$from = $first - 1 unless $from >= $first - 1 && $from <= $last;
my $address;
for my $each ($from + 1 .. $last, $first .. $from) {
    next if $taken{dotted($each)};
    $address = dotted($each);
    last;
}
become() unless defined $address;
my $draft = "$place/.draft";
become() unless write_whole($draft, "$container\r\n$ifname", 01101);
my $is_leased = link $draft, "$place/$address";
unlink $draft;
become() unless $is_leased && write_whole("$place/last_reserved_ip.0", $address, 0101);
close $lock;

# The link, then its end in the container.
open(my $random, '<:raw', '/dev/urandom') or become();
sysread($random, my $drawn, 6) == 6 or become();
my $host_mac = pack('C', ord($drawn) & 0xfc | 2) . substr $drawn, 1;
my $mac = pack 'CCa4', 0x0a, 0x58, pack 'C4', split /\./, $address;
my $common = attribute(31, "\1\0\0\0") . attribute(32, "\1\0\0\0");  # queues, see route.py
$common .= attribute(4, pack 'L', $mtu) if $mtu;
my $peer = header() . attribute(3, "$ifname\0") . attribute(1, $mac) . $common
    . attribute(28, pack 'L', fileno $there);
my $pair = header(0, 1, 1) . attribute(3, "$veth\0") . attribute(1, $host_mac) . $common
    . attribute(10, pack 'L', $index)
    . attribute(0x8012, attribute(1, "veth\0") . attribute(0x8002, attribute(0x8001, $peer)));
my $port = header() . attribute(3, "$veth\0") . attribute(20, substr "cni $name $owner", 0, 255);
$port .= attribute(0x8012, attribute(4, "bridge\0") . attribute(0x8005, attribute(4, "\1")))
    if flag('hairpinMode');
change($node, [16, 0x605, $pair], [16, 5, $port]) or undo();
my $end = link_of($inside, $ifname) or undo();
$index = unpack 'x4l', $end;
my $ip = pack 'C4', split /\./, $address;
my @changes = (
    [16, 5, header($index, 1, 1)],
    [20, 0x605, pack('CCCCl', 2, $length, 0, 0, $index) . attribute(2, $ip) . attribute(1, $ip)
        . attribute(4, pack 'N', $subnet + $hosts)],
);
push @changes, [24, 0x605, pack('C8L', 2, 0, 0, 0, 254, 0x7a, 0, 1, 0)
    . attribute(4, pack 'L', $index) . attribute(5, $packed) . attribute(15, pack 'L', 254)]
    if $is_default;
change($inside, @changes) or undo();

my $via = dotted($gateway);
my $newest = $version eq '1.1.0';
my @links = (
    [$bridge, $bridge_mac, $bridge_mtu], [$veth, mac($host_mac), $mtu || 1500],
    [$ifname, mac($mac), $mtu || 1500],
);
my @shown = map {
    qq("name": "$_->[0]", "mac": "$_->[1]") . ($newest ? qq(, "mtu": $_->[2]) : '')
} @links;
$shown[2] .= qq(, "sandbox": "$netns");
$| = 1;
print qq({"cniVersion": "$version", "interfaces": [) . join(', ', map { "{$_}" } @shown)
    . qq(], "ips": [{"address": "$address/$length", "gateway": "$via", "interface": 2}])
    . ($is_default ? qq(, "routes": [{"dst": "0.0.0.0/0", "gw": "$via"}]) : '') . "}\n";
{leave};

sub flag {
    my $found = $config->{$_[0]} // return 0;
    become() unless ref $found eq 'SCALAR' && $$found =~ /^(?:true|false)\z/;
    return $$found eq 'true';
}

sub dotted { return join '.', unpack 'C4', pack 'N', $_[0] }

sub mac { return join ':', map { sprintf '%02x', $_ } unpack 'C*', $_[0] }

sub write_whole {
    sysopen(my $file, $_[0], $_[2], 0644) or return 0;
    return (syswrite($file, $_[1]) // 0) == length $_[1] && truncate($file, length $_[1]);
}

sub netlink {
    socket(my $socket, 16, 3, 0) or return undef;
    setsockopt($socket, 270, 12, pack 'l', 1) or return undef;
    return $socket;
}

sub attribute { return pack('SSa*', 4 + length $_[1], @_) . "\0" x (-length($_[1]) % 4) }

sub attributes {
    my ($data, $offset) = @_;
    my %found;
    while ($offset + 4 <= length $data) {
        my ($size, $kind) = unpack "x${offset}SS", $data;
        last if $size < 4 || $offset + $size > length $data;
        $found{$kind & 0x3fff} = substr $data, $offset + 4, $size - 4;
        $offset += $size + 3 & ~3;
    }
    return %found;
}

sub header { return pack 'CxSlLL', 0, 0, $_[0] // 0, $_[1] // 0, $_[2] // 0 }

# Send messages of kind, flags and payload; return kinds and payloads of what comes back.
sub exchange {
    my ($socket, $answers, @messages) = @_;
    my $from = $sequence;
    my $raw = join '', map {
        pack('LSSLL', 16 + length $_->[2], $_->[0], $_->[1], ++$sequence, 0) . $_->[2]
    } @messages;
    defined syswrite($socket, $raw) or return;
    my @found;
    while (@found < $answers) {
        sysread($socket, my $data, 65536) or return;
        for (my $offset = 0; $offset + 16 <= length $data;) {
            my ($size, $kind, undef, $number) = unpack "x${offset}LSSL", $data;
            push @found, [$kind, substr $data, $offset + 16, $size - 16] if $number > $from;
            $offset += $size + 3 & ~3;
            return @found if $kind == 3;
        }
    }
    return @found;
}

sub change {
    my ($socket, @messages) = @_;
    my @found = exchange($socket, scalar @messages, @messages);
    return @found == @messages && !grep { $_->[0] != 2 || unpack('l', $_->[1]) } @found;
}

# The kernel's word on a link, undef when there is none of the name.
sub link_of {
    my ($found) = exchange($_[0], 1, [18, 1, header() . attribute(3, "$_[1]\0")]);
    become() unless $found;
    return $found->[1] if $found->[0] == 16;
    become() unless $found->[0] == 2 && unpack('l', $found->[1]) == -19;
    return undef;
}

sub dump_addresses {
    my @found = exchange($node, 1e9, [22, 0x301, pack 'CCCCl', 2, 0, 0, 0, $_[0]]);
    return map { $_->[0] == 20 ? $_->[1] : () } @found;
}

# Take the link away; the Python plugin takes the lease over.
sub undo {
    exchange($node, 1, [17, 5, header() . attribute(3, "$veth\0")]);
    become();
}

"""


def quick_add(plugin: str) -> str:
    """Return the text of the quick ADD in front of *plugin*, "" where it can't be run."""
    number = SETNS.get(platform.machine(), 0)
    if not number or not os.access(PERL, os.X_OK):
        return ""
    return filled(TEXT + COMMON, plugin).replace("{setns}", str(number))
