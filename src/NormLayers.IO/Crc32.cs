namespace NormLayers.IO;

/// <summary>The checksum of .zip archives: CRC-32 with the reversed polynomial 0xEDB88320 (ISO 3309), eight bytes a step.</summary>
internal static class Crc32
{
    private const int Step = 8;

    private static readonly uint[][] Tables = MakeTables();

    /// <summary>Goes on with a checksum; the one of no bytes is 0.</summary>
    public static uint Append(uint crc, ReadOnlySpan<byte> bytes)
    {
        uint[][] tables = Tables;
        crc = ~crc;
        for (; bytes.Length >= Step; bytes = bytes[Step..])
        {
            // The checksum is linear: each byte's share depends on its distance from the end alone.
            crc = tables[7][(byte)(bytes[0] ^ crc)] ^ tables[6][(byte)(bytes[1] ^ (crc >> 8))]
                ^ tables[5][(byte)(bytes[2] ^ (crc >> 16))] ^ tables[4][bytes[3] ^ (crc >> 24)]
                ^ tables[3][bytes[4]] ^ tables[2][bytes[5]] ^ tables[1][bytes[6]] ^ tables[0][bytes[7]];
        }
        foreach (byte value in bytes)
            crc = tables[0][(byte)(crc ^ value)] ^ (crc >> 8);
        return ~crc;
    }

    private static uint[][] MakeTables()
    {
        var tables = new uint[Step][];
        for (int distance = 0; distance < Step; distance++)
        {
            tables[distance] = new uint[256];
            for (uint value = 0; value < 256; value++)
            {
                uint crc = distance == 0 ? value : tables[distance - 1][value];
                for (int bit = 0; bit < 8; bit++)
                    crc = (crc & 1) == 0 ? crc >> 1 : (crc >> 1) ^ 0xEDB88320;
                tables[distance][value] = crc;
            }
        }
        return tables;
    }
}
