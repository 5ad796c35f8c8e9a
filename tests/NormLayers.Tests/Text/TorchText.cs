using System.Text.Json;

namespace NormLayers.Tests.Text;

/// <summary>Reads torch_text.json, which make_torch_text.py wrote.</summary>
internal static class TorchText
{
    private static readonly Lazy<JsonElement> Root = new(() =>
        JsonDocument.Parse(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Text", "torch_text.json"))).RootElement);

    public static IEnumerable<JsonElement> Tensors => Root.Value.GetProperty("tensors").EnumerateArray();

    public static IEnumerable<JsonElement> Numbers => Root.Value.GetProperty("numbers").EnumerateArray();
}
