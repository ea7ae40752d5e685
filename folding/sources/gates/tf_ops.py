"""Which TensorFlow operations may stand where. Names only: nothing is imported.

    FORBIDDEN   reach out of the graph into files, the network, other devices or the Python process. Never
                allowed in what is run; in a training graph, `READING` ones may stand where they are cut off.
    INFERENCE   may stand in the sub-graph that TensorFlow and tf2onnx get to see: what tf2onnx converts
                (version 1.16 and 1.17), what the surgery dissolves, and arithmetic that grappler folds away.

Any other operation is refused as unsupported, by name, before TensorFlow sees it.
"""

from __future__ import annotations

import re
from typing import Final

# Run Python or native code of somebody's choice, talk to other machines, write files.
_HARMFUL: Final = """
    PyFunc PyFuncStateless EagerPyFunc PyFuncAsync NumPyFunc WriteFile WriteAudioSummary WriteGraphSummary
    WriteHistogramSummary WriteImageSummary WriteRawProtoSummary WriteScalarSummary WriteSummary PrintV2
    DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount DebugNumericSummary DebugNumericSummaryV2
    DebugGradientIdentity RemoteCall RemoteFusedGraphExecute RpcCall RpcClient RpcServer RpcServerStart
    RpcServerRegister TryRpc Rpc DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3
    DataServiceDatasetV4 RegisterDataset RegisterDatasetV2 CollectiveInitializeCommunicator
    ConfigureDistributedTPU ConfigureTPUEmbedding ImmutableConst LoadAndRemapMatrix GenerateVocabRemapping
    SaveDataset SaveDatasetV2 DatasetToTFRecord FileSystemSetConfiguration _Send _Recv _HostSend _HostRecv
    _HostCast Send Recv CompilePythonToGraph XlaHostCompute XlaSendToHost XlaRecvFromHost XlaCallModule
    Bitcast_CustomCall CustomCall _XlaRun _XlaCompile StatefulPartitionedCallRemote HdfsDataset
    KafkaDataset BigQueryReader BigtableClient GCSConfigureCredentials
"""

# Read files and feed training; a frozen or served graph has no use for them.
_READING: Final = """
    ReadFile MatchingFiles ReaderRead ReaderReadV2 ReaderReadUpTo ReaderReadUpToV2 WholeFileReader
    WholeFileReaderV2 TextLineReader TextLineReaderV2 TFRecordReader TFRecordReaderV2
    FixedLengthRecordReader FixedLengthRecordReaderV2 IdentityReader IdentityReaderV2 LMDBReader
    LMDBDataset TFRecordDataset TFRecordDatasetV2 TextLineDataset FixedLengthRecordDataset
    FixedLengthRecordDatasetV2 SqlDataset ExperimentalSqlDataset CSVDataset ExperimentalCSVDataset
    ExperimentalLMDBDataset MatchingFilesDataset ExperimentalMatchingFilesDataset CacheDataset
    CacheDatasetV2 SnapshotDataset SnapshotDatasetV2 LoadDataset InitializeTableFromTextFile
    InitializeTableFromTextFileV2 InitializeTableFromDataset RestoreV2 Restore RestoreSlice SaveV2 Save
    SaveSlices ShardedFilename ShardedFilespec MergeV2Checkpoints CheckpointExists DeserializeIterator
"""

# Harmful ones that training graphs nevertheless carry in their input pipeline or their logging.
_TRAINING: Final = """
    PyFunc PyFuncStateless EagerPyFunc PrintV2 _Send _Recv WriteAudioSummary WriteGraphSummary
    WriteHistogramSummary WriteImageSummary WriteRawProtoSummary WriteScalarSummary WriteSummary
    ConfigureDistributedTPU ConfigureTPUEmbedding GenerateVocabRemapping LoadAndRemapMatrix
"""

# The saver, and tables that read an asset: in every SavedModel, behind its restore and init ops.
_LOADING: Final = """
    RestoreV2 Restore RestoreSlice SaveV2 Save SaveSlices ShardedFilename ShardedFilespec
    MergeV2Checkpoints CheckpointExists InitializeTableFromTextFile InitializeTableFromTextFileV2
    InitializeTableFromDataset
"""

_CONVERTED: Final = """
    Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax ArgMin
    AsString Asin Asinh Atan Atan2 Atanh AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3
    BatchToSpaceND BiasAdd BiasAddV1 Bincount BitwiseAnd BitwiseOr BitwiseXor BroadcastTo CTCGreedyDecoder
    Cast Ceil CheckNumerics ClipByValue CombinedNonMaxSuppression ComplexAbs Concat ConcatV2 Const ConstV2
    Conv1D Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh CropAndResize CudnnRNN Cumprod
    Cumsum DenseBincount DenseToDenseSetOperation DepthToSpace DepthwiseConv2d DepthwiseConv2dNative Div
    DivNoNan Dropout DynamicPartition DynamicStitch Einsum Elu EnsureShape Equal Erf Exp ExpandDims
    ExtractImagePatches FFT FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars Fill Flatten Floor FloorDiv
    FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater
    GreaterEqual HardSwish HashTableV2 Identity IdentityN If Invert InvertPermutation IsFinite IsInf IsNan
    L2Normalization LRN LSTMBlockCell LeakyRelu LeftShift Less LessEqual Log LogSoftmax LogicalAnd
    LogicalNot LogicalOr LookupTableFindV2 LookupTableSizeV2 MatMul MatrixBandPart MatrixDeterminant
    MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse
    MatrixSetDiagV3 Max MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Mean Min Minimum MirrorPad
    Mul Multinomial Neg NoOp NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4
    NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch Placeholder
    PlaceholderV2 PlaceholderWithDefault Pow Prelu Prod RFFT RFFT2D RaggedGather RaggedRange
    RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant RandomNormal
    RandomNormalLike RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt RandomUniformLike
    Range RealDiv Reciprocal ReduceJoin RegexSplitWithOffsets Relu Relu6 Reshape ResizeArea ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt
    SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 ScatterNd SegmentMax SegmentMean SegmentMin
    SegmentProd SegmentSum Select SelectV2 Selu SentencepieceOp SentencepieceTokenizeOp Shape ShapeN
    Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyWithLogits Softplus Softsign
    SpaceToBatchND SpaceToDepth SparseFillEmptyRows SparseReshape SparseSegmentMean
    SparseSegmentMeanWithNumSegments SparseSegmentSqrtN SparseSegmentSqrtNWithNumSegments SparseSegmentSum
    SparseSegmentSumWithNumSegments SparseSoftmaxCrossEntropyWithLogits SparseToDense Split SplitV Sqrt
    Square SquaredDifference SquaredDistance Squeeze StatelessIf StatelessWhile StaticRegexReplace
    StopGradient StridedSlice StringJoin StringLower StringSplit StringSplitV2 StringToHashBucketFast
    StringToNumber StringUpper Sub Sum Tan Tanh TensorListFromTensor TensorListGetItem TensorListLength
    TensorListReserve TensorListResize TensorListSetItem TensorListStack TensorScatterAdd TensorScatterMax
    TensorScatterMin TensorScatterSub TensorScatterUpdate Tile TopKV2 Transpose TruncateDiv Unique
    UniqueWithCounts Unpack UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
    Where While WordpieceTokenizeWithOffsets ZerosLike
"""

# Dissolved by the surgery (control flow, calls, variables), or folded away by grappler when constant.
_DISSOLVED: Final = """
    Switch Merge RefSwitch RefMerge RefIdentity RefEnter RefExit RefNextIteration Enter Exit NextIteration
    LoopCond ControlTrigger Case StatelessCase PartitionedCall StatefulPartitionedCall Snapshot
    PreventGradient Variable VariableV2 VarHandleOp ReadVariableOp ResourceGather ResourceGatherNd
    AutoReloadVariable TemporaryVariable Assign AssignSub AssignAdd AssignVariableOp AssignSubVariableOp
    AssignAddVariableOp VarIsInitializedOp IsVariableInitialized AssignMovingAvg HashTable
    MutableHashTableV2 LookupTableFind LookupTableSize LookupTableExportV2 LookupTableImportV2
    InitializeTableV2 InitializeTable Assert Print Const BatchNormWithGlobalNormalization
    BatchNormalization FusedBatchNormGrad TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3
    TensorArrayGatherV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayConcatV3
    TensorArrayCloseV3 EmptyTensorList TensorListPushBack TensorListPopBack TensorListElementShape
    TensorListConcatV2 TensorListGather TensorListScatterV2 TensorListSplit Rank Erfc Erfinv Lgamma
    Digamma Igamma Expm1 Log1p Xlogy Xdivy Inv Mod TruncateMod BroadcastArgs BroadcastGradientArgs
    LinSpace Empty Bitcast UnravelIndex HistogramFixedWidth ListDiff Cross Angle Real Imag Complex Conj
    ConjugateTranspose Diag DiagPart MatrixDiagPartV3 MatrixSetDiag MatrixSetDiagV2 Eig Cholesky Quantize
    QuantizeV2 Dequantize QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
    QuantizeAndDequantizeV4 FakeQuantWithMinMaxVarsPerChannel FakeQuantWithMinMaxArgs TruncatedNormal
    StatelessTruncatedNormal StatelessTruncatedNormalV2 StatelessRandomUniform StatelessRandomUniformV2
    StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomGetKeyCounter StatelessRandomGetAlg
    StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessMultinomial
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomGetKeyCounterAlg
    StringFormat StringLength Substr StringStrip DecodeRaw EncodeBase64 DecodeBase64 RegexReplace
    RegexFullMatch StringToHashBucket StringToHashBucketStrong UnicodeDecodeWithOffsets UnicodeEncode
    UnicodeTranscode ParseExample ParseExampleV2 ParseSingleExample ParseTensor DecodeCSV
    DecodeJSONExample MaxPool3D AvgPool3D FractionalMaxPool FractionalAvgPool Dilation2D BatchToSpace
    SpaceToBatch ResizeNearestNeighborV2 ScaleAndTranslate ImageProjectiveTransformV2
    ImageProjectiveTransformV3 RGBToHSV HSVToRGB AdjustContrast DrawBoundingBoxes NonMaxSuppression
    NonMaxSuppressionWithOverlaps ExtractVolumePatches Conv3DBackpropInput Conv
    DepthwiseConv2dNativeBackpropInput Fingerprint SegmentSumV2 SegmentMeanV2 SegmentMaxV2 SegmentMinV2
    SegmentProdV2 SparseTensorDenseMatMul SparseConcat SparseSlice SparseReorder SparseSplit SparseAdd
    SparseReduceSum SparseSoftmax SparseToSparseSetOperation IFFT FFT2D IFFT2D FFT3D IFFT3D IRFFT IRFFT2D
    Softmax NthElement SearchSorted LowerBound UpperBound TopK Bucketize ClipByValue DataFormatDimMap
    DataFormatVecPermute InplaceUpdate InplaceAdd InplaceSub DeepCopy BlockLSTM BlockLSTMV2 GRUBlockCell
    CudnnRNNV2 CudnnRNNV3 MatrixTriangularSolve MatrixSolve Svd Qr PlaceholderWithDefault
    OptionalFromValue OptionalGetValue DestroyResourceOp DummySeedGenerator RandomGamma RandomPoissonV2
    Shape SparseMatMul ApproxTopK Ndtri BesselI0e BesselI1e LogMatrixDeterminant UniqueV2
    UniqueWithCountsV2 TensorStridedSliceUpdate RaggedTensorToVariantGradient RaggedBincount
    SparseBincount RaggedCross SparseCross SparseCrossV2 SparseCrossHashed
"""

HARMFUL: Final = frozenset(_HARMFUL.split())
READING: Final = frozenset(_READING.split())
FORBIDDEN: Final = HARMFUL | READING
LOADING: Final = frozenset(_LOADING.split())
TRAINING: Final = frozenset(_TRAINING.split()) | READING
INFERENCE: Final = (frozenset(_CONVERTED.split()) | frozenset(_DISSOLVED.split())) - FORBIDDEN

# Whole families that reach outside; new members of them must not slip through a list.
_FAMILIES: Final = re.compile(
    r"PyFunc|Rpc(?![a-z])|.*Py(thon)?Call|.*(Kafka|Hdfs|BigQuery|Bigtable|Kinesis|Arrow|Gcs|S3|Http)|"
    r"WriteFile|.*FileSystem|LoadLibrary|.*CustomCall|_?TFProf"
)


def forbidden(op: str) -> bool:
    """Whether the operation reaches outside the graph."""
    return op in FORBIDDEN or _FAMILIES.match(op) is not None
