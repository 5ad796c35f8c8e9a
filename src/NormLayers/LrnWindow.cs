namespace NormLayers;

/// <summary>The channels that a local response normalization sums over, for a channel c and a window of <c>size</c> channels.</summary>
public enum LrnWindow
{
    /// <summary>From <c>c - size / 2</c> to <c>c + (size - 1) / 2</c>: an even window reaches further down. PyTorch's LocalResponseNorm.</summary>
    PyTorch,

    /// <summary>From <c>c - (size - 1) / 2</c> to <c>c + size / 2</c>: an even window reaches further up. The operator LRN of ONNX (https://onnx.ai/onnx/operators/onnx__LRN.html).</summary>
    Onnx,
}
