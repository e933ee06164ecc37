-- Hands the bytes of TCP connections, in order and out of TLS where tshark has the keys, to hopwire. Decodes nothing.
--
-- hopwire starts tshark with this script and has it print the field `hopwire.data` of each packet. The port that daemons
-- listen on is the script's argument; connections to others are known by the preamble of the protocol.

local PORT = ...
local MAGIC = "\245HOP\r\n"

local bytes = Proto("hopwire", "bytes of a connection, for hopwire")
local data = ProtoField.bytes("hopwire.data", "Data")
bytes.fields = { data }

function bytes.dissector(tvb, _, root)
    root:add(bytes, tvb()):add(data, tvb())
    return tvb:len()
end

-- In the clear. TLS, which begins with a record's type and version, is left to tshark.
local plain = Proto("hopwire_plain", "bytes of a connection in the clear, for hopwire")

function plain.dissector(tvb, pinfo, root)
    local kind = tvb(0, 1):uint()
    if kind >= 20 and kind <= 23 and (tvb:len() < 2 or tvb(1, 1):uint() == 3) then return 0 end
    pinfo.conversation = bytes
    return bytes.dissector(tvb, pinfo, root)
end

local function looks_like_it(tvb, pinfo, root)
    if tvb:len() < #MAGIC or tvb:raw(0, #MAGIC) ~= MAGIC then return false end
    pinfo.conversation = bytes
    bytes.dissector(tvb, pinfo, root)
    return true
end

DissectorTable.get("tcp.port"):add(tonumber(PORT), plain)
DissectorTable.get("tls.port"):add(tonumber(PORT), bytes)
DissectorTable.get("tls.alpn"):add("streamhop/1", bytes)
bytes:register_heuristic("tcp", looks_like_it)
